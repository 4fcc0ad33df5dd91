"""What one message says: the text for their language, the values it may name, and the message made of both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.conf import settings

from campaigns import links, rendering, texting
from campaigns.errors import BrokenTemplate
from campaigns.models import Campaign, Channel, Purpose, Template, TemplateVariant
from customers.models import Customer
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.moments import DAY
from lifecycle_crm.lib.moments import seconds as whole_seconds

NO_WAY_OUT = "/p/u/preview/"
"""The way out of a message that nobody got: the page behind it says that the link is not valid."""


def has_way_out(purpose: str) -> bool:
    """Whether a message of this purpose says how to get no more of them. A service notice follows from the contract."""
    return purpose != Purpose.SERVICE


def texts_of(campaign: Campaign) -> dict[str, int]:
    """Newest variant id per language of the campaign's template."""
    return newest_of(campaign.template)


def newest_of(template: Template) -> dict[str, int]:
    """Newest variant id per language."""
    return dict(template.variants.order_by("version").values_list("language", "pk"))


Prepared = rendering.Prepared | texting.Prepared


@lru_cache(maxsize=256)
def _compiled(is_sms: bool, language: str, subject: str, blocks: str, has_foot: bool) -> Prepared:
    make = texting.Prepared if is_sms else rendering.Prepared
    return make(language=language, subject=subject, blocks=json.loads(blocks), has_foot=has_foot)


def prepared(variant: TemplateVariant) -> Prepared:
    """The compiled text, compiled once per process; known by its content, so no other text can be taken for it."""
    template = variant.template
    return _compiled(
        template.channel == Channel.SMS,
        variant.language,
        variant.subject,
        json.dumps(variant.blocks),
        has_way_out(template.purpose),
    )


def variant_for(variants: Mapping[str, int], language: str) -> int | None:
    """Theirs, else the shop's, else English, else the first there is."""
    for wanted in (language, settings.LANGUAGE_CODE, "en"):
        if wanted in variants:
            return variants[wanted]
    return min(variants.values(), default=None)


def values_of(customers: Sequence[int], as_of: datetime) -> dict[int, dict[str, Any]]:
    """What a template may say about each customer: strings and numbers only, every name always there."""
    people: Any = Customer.objects.filter(pk__in=customers).values_list(
        "pk", "given_name", "name", "email", "city", "country", "language", "facts__orders", "facts__last_order_at",
        "facts__tier", "facts__points",
    )  # fmt: skip
    now, shop = whole_seconds(as_of), the_shop()
    answer = {}
    for pk, given_name, name, email, city, country, language, orders, last, tier, points in people:
        last_order = whole_seconds(last) if last else None
        answer[pk] = values(
            now, shop, given_name, name, email, city, country, language, orders, last_order, tier, points
        )
    return answer


def the_shop() -> dict[str, Any]:
    answer: dict[str, Any] = rendering.plain(
        {"name": settings.SHOP_NAME, "address": settings.SHOP_ADDRESS, "url": settings.SITE_URL}
    )
    return answer


def values(
    now: int,
    shop: dict[str, Any],
    given_name: str,
    name: str,
    address: str,
    city: str,
    country: str,
    language: str,
    orders: int | None,
    last_order: int | None,
    tier: str | None,
    points: int | None,
) -> dict[str, Any]:
    """The same from one customer's columns; ``now`` and ``last_order`` in whole seconds."""
    clean = rendering.clean
    return {
        "customer": {
            "given_name": clean(given_name),
            "name": clean(name),
            "email": clean(address),
            "city": clean(city),
            "country": clean(country),
            "language": clean(language or settings.LANGUAGE_CODE),
            "orders": orders or 0,
            "days_since_order": None if last_order is None else (now - last_order) // DAY,
            "tier": clean(tier or ""),
        },
        "points": points or 0,
        # Known to the messages that are about them, which bring their own.
        "reward": {"name": "", "code": "", "last_day": ""},
        "sign_up": {"title": "", "confirm_url": ""},
        "shop": shop,
        "unsubscribe_url": "",
    }


def general(shop: dict[str, Any], language: str) -> dict[str, Any]:
    """What is known of somebody of whom nothing is known but their language: a text says its fallbacks."""
    return values(0, shop, "", "", "", "", "", language, 0, None, "", 0)


def sms_example(language: str) -> dict[str, Any]:
    """What is known of nobody in particular, with a way out as long as those that are sent."""
    return {**general(the_shop(), language), "unsubscribe_url": links.short_example()}


def preview(*, campaign: Campaign, customer: Customer) -> rendering.Made:
    """The message as this customer would get it now, made by the code that sends. Nothing is written; the way out in it
    leads nowhere. Raises ``BrokenTemplate``."""
    chosen = variant_for(texts_of(campaign), customer.speaks())
    if chosen is None:
        raise BrokenTemplate("The template has no text yet.")
    variant = TemplateVariant.objects.select_related("template").get(pk=chosen)
    return shown(variant=variant, customer=customer, is_general=campaign.is_general)


def shown(*, variant: TemplateVariant, customer: Customer, is_general: bool = False) -> rendering.Made:
    """A text, stored or not, as this customer would get it now, made by the code that sends. Nothing is written; the way
    out in it leads nowhere. Raises ``BrokenTemplate``."""
    if is_general:
        known = general(the_shop(), customer.speaks())
    else:
        known = values_of([customer.pk], clock.now())[customer.pk]
    return made_of(variant, known)


def made_of(variant: TemplateVariant, known: Mapping[str, Any]) -> rendering.Made:
    """A text with these values. The way out in it leads nowhere. Raises ``BrokenTemplate``."""
    made = prepared(variant)
    if isinstance(made, texting.Prepared):
        # As long as the links that will stand there, so that the parts are those that are paid for.
        example = links.short_example()
        return made.make({**known, "unsubscribe_url": example}, lambda url: example if made.leads(url) else url)
    return made.make({**known, "unsubscribe_url": f"{settings.SITE_URL}{NO_WAY_OUT}"})
