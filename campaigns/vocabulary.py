"""What a text may say of somebody: every value a message knows, its name for people, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

NUMBER, TEXT = "number", "text"


@dataclass(frozen=True)
class Value:
    """``path`` as Liquid names it. ``missing`` is the SQL for "they have none" over customer ``c`` and facts ``f``; ""
    when everybody has one."""

    path: str
    label: Any
    kind: str
    missing: str = ""

    @property
    def needs_fallback(self) -> bool:
        return bool(self.missing)


VALUES: dict[str, Value] = {
    one.path: one
    for one in (
        Value("customer.given_name", _("first name"), TEXT, "c.given_name = ''"),
        Value("customer.name", _("full name"), TEXT, "c.name = ''"),
        Value("customer.city", _("city"), TEXT, "c.city = ''"),
        Value("customer.country", _("country"), TEXT, "c.country = ''"),
        Value("customer.email", _("e-mail address"), TEXT),
        Value("customer.language", _("language"), TEXT),
        Value("customer.orders", _("number of orders"), NUMBER),
        Value("customer.days_since_order", _("days since the last order"), NUMBER, "f.last_order_at IS NULL"),
        Value("customer.tier", _("tier"), TEXT, "coalesce(f.tier, '') = ''"),
        Value("points", _("points"), NUMBER),
        Value("shop.name", _("name of the shop"), TEXT),
        Value("shop.address", _("address of the shop"), TEXT),
        Value("shop.url", _("website of the shop"), TEXT),
        Value("unsubscribe_url", _("address to unsubscribe at"), TEXT),
        Value("reward.name", _("name of the reward"), TEXT),
        Value("reward.code", _("code of the reward"), TEXT),
        Value("reward.last_day", _("last day of the code"), TEXT),
        Value("sign_up.title", _("title of the sign-up form"), TEXT),
        Value("sign_up.confirm_url", _("address to confirm the sign-up at"), TEXT),
    )
}
OF_THE_CUSTOMER = tuple(path for path in VALUES if path.startswith("customer.") or path == "points")
"""What a condition of a block may ask for."""
IN_THE_MENU = tuple(
    path
    for path in VALUES
    if path not in ("unsubscribe_url", "customer.language") and not path.startswith(("reward.", "sign_up."))
)
"""What a person inserts; the rest is said by the frame, is of no use in a sentence, or (``reward``, ``sign_up``) is only
known to the message that is about it and empty in all others."""
OTHER_NAMES = {
    "first_name": "customer.given_name", "firstname": "customer.given_name", "last_name": "customer.name",
    "full_name": "customer.name", "town": "customer.city", "level": "customer.tier", "balance": "points",
}  # fmt: skip
"""How other tools call them."""
