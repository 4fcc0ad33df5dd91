"""What ``manage.py verify`` asks of tiers."""

from __future__ import annotations

from django.utils.translation import gettext as _

from lifecycle_crm.lib import batches


def problems() -> list[str]:
    """A sentence for each standing that is not what the changes say; empty when all is well."""
    last = (
        "SELECT c.programme_id, c.customer_id, c.to_tier FROM (SELECT programme_id, customer_id, to_tier, "
        "row_number() OVER (PARTITION BY programme_id, customer_id ORDER BY effective_at DESC, id DESC) AS place "
        "FROM loyalty_tierchange) c WHERE c.place = 1"
    )
    wrong = batches.rows(
        f"SELECT s.customer_id, s.tier, coalesce(c.to_tier, '') FROM loyalty_tierstanding s LEFT JOIN ({last}) c "
        "ON c.programme_id = s.programme_id AND c.customer_id = s.customer_id "
        "WHERE s.tier <> coalesce(c.to_tier, '') ORDER BY 1 LIMIT 50"
    )
    return [
        _("Customer #%(customer)s stands in tier “%(stands)s”, but their last change says “%(says)s”.")
        % {"customer": customer, "stands": stands, "says": says}
        for customer, stands, says in wrong
    ]
