"""What one message says: the text for their language, the values it may name, and the message made of both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.conf import settings

from campaigns import rendering
from campaigns.errors import BrokenTemplate
from campaigns.models import Campaign, Purpose, TemplateVariant
from customers.models import Customer, CustomerFacts
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.moments import DAY
from lifecycle_crm.lib.moments import seconds as whole_seconds


def texts_of(campaign: Campaign) -> dict[str, int]:
    """Newest variant id per language of the campaign's template."""
    return dict(campaign.template.variants.order_by("version").values_list("language", "pk"))


@lru_cache(maxsize=256)
def _compiled(language: str, subject: str, blocks: str, has_foot: bool) -> rendering.Prepared:
    return rendering.Prepared(language=language, subject=subject, blocks=json.loads(blocks), has_foot=has_foot)


def prepared(variant: TemplateVariant) -> rendering.Prepared:
    """The compiled text, compiled once per process; known by its content, so no other text can be taken for it."""
    return _compiled(
        variant.language, variant.subject, json.dumps(variant.blocks), variant.template.purpose != Purpose.SERVICE
    )


def variant_for(variants: Mapping[str, int], language: str) -> int | None:
    """Theirs, else the shop's, else English, else the first there is."""
    for wanted in (language, settings.LANGUAGE_CODE, "en"):
        if wanted in variants:
            return variants[wanted]
    return min(variants.values(), default=None)


def values_of(customers: Sequence[int], as_of: datetime) -> dict[int, dict[str, Any]]:
    """What a template may say about each customer: strings and numbers only, every name always there."""
    facts: dict[int, tuple[Any, ...]] = {
        row[0]: row[1:]
        for row in CustomerFacts.objects.filter(pk__in=customers).values_list(
            "pk", "orders", "last_order_at", "tier", "points"
        )
    }
    shop = {"name": settings.SHOP_NAME, "address": settings.SHOP_ADDRESS, "url": settings.SITE_URL}
    answer = {}
    people = Customer.objects.filter(pk__in=customers).values_list(
        "pk", "given_name", "name", "email", "city", "country", "language"
    )
    for pk, given_name, name, address, city, country, language in people:
        orders, last, tier, points = facts.get(pk, (0, None, "", 0))
        answer[pk] = rendering.plain(
            {
                "customer": {
                    "given_name": given_name,
                    "name": name,
                    "email": address,
                    "city": city,
                    "country": country,
                    "language": language or settings.LANGUAGE_CODE,
                    "orders": orders,
                    "days_since_order": (whole_seconds(as_of) - whole_seconds(last)) // DAY if last else None,
                    "tier": tier,
                },
                "points": points,
                "shop": shop,
                "unsubscribe_url": "",
            }
        )
    return answer


def preview(*, campaign: Campaign, customer: Customer) -> rendering.Made:
    """The message as this customer would get it now, made by the code that sends. Nothing is written; the way out in it
    leads nowhere. Raises ``BrokenTemplate``."""
    now = clock.now()
    texts = texts_of(campaign)
    chosen = variant_for(texts, customer.speaks())
    if chosen is None:
        raise BrokenTemplate("The template has no text yet.")
    variant = TemplateVariant.objects.select_related("template").get(pk=chosen)
    values = values_of([customer.pk], now)[customer.pk]
    return prepared(variant).make({**values, "unsubscribe_url": f"{settings.SITE_URL}/p/u/preview"})
