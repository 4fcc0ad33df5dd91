from decimal import ROUND_HALF_EVEN, Decimal

from babel.numbers import get_currency_precision as digits
from django.conf import settings
from django.db import migrations, models
from django.db.models import F


def tell(apps, schema_editor):
    """In the shop's own currency a refund took its amount; elsewhere what the net amount was before it, less after it."""
    refunds = apps.get_model("customers", "Refund").objects
    orders = apps.get_model("customers", "Order").objects
    own = orders.filter(currency=settings.SHOP_CURRENCY, rate=1).values("pk")
    refunds.filter(order__in=own).update(base_minor=F("amount_minor"))
    foreign = refunds.exclude(order__in=own).order_by("order_id", "occurred_at", "pk").select_related("order")
    left, last = 0, None
    for row in foreign.iterator(chunk_size=2000):
        order = row.order
        if order.pk != last:
            last, left = order.pk, order.amount_minor

        def net(minor, order=order):
            shift = digits(settings.SHOP_CURRENCY) - digits(order.currency)
            return int((Decimal(minor) * order.rate).scaleb(shift).to_integral_value(rounding=ROUND_HALF_EVEN))

        refunds.filter(pk=row.pk).update(base_minor=net(left) - net(left - row.amount_minor))
        left -= row.amount_minor


class Migration(migrations.Migration):
    """A refund says what it took from its order, and is found by its moment: a late night sees orders as they were."""

    dependencies = [("customers", "0007_facts_stay_in_their_page")]

    operations = [
        migrations.AddField(
            model_name="refund",
            name="base_minor",
            field=models.BigIntegerField(
                default=0,
                help_text="What the order lost by it; so the order can be seen as it was before.",
                verbose_name="taken from the net amount in the reporting currency",
            ),
        ),
        migrations.AddIndex(
            model_name="refund",
            index=models.Index(fields=["occurred_at"], name="customers_refund_occurred"),
        ),
        migrations.RunPython(tell, migrations.RunPython.noop),
    ]
