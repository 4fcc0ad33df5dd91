"""What every tab of a customer's page says above itself: scores, wallet, what comes next, what they allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from customers import conditions
from customers import queries as customer_queries
from customers.models import Consent, Customer, CustomerFacts
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.moments import DAY, seconds
from lifecycle_crm.templatetags.crm import day, num, stage_name
from loyalty import statements
from stages import evidence
from stages.models import Pin, RuleSet


@dataclass(frozen=True)
class Score:
    """A score of 1 to 5 and the fact it was made from."""

    label: str
    value: int
    fact: str

    @property
    def steps(self) -> list[bool]:
        return [step <= self.value for step in range(1, 6)]


def scores(known: CustomerFacts | None) -> list[Score]:
    if known is None or known.recency is None or known.last_order_at is None:
        return []
    days = (seconds(clock.now()) - seconds(known.last_order_at)) // DAY
    ordered = ngettext("%(n)s day since the last order", "%(n)s days since the last order", days) % {"n": num(days)}
    orders = ngettext("%(n)s order", "%(n)s orders", known.orders) % {"n": num(known.orders)}
    return [
        Score(_("Recency"), known.recency, ordered),
        Score(_("Frequency"), known.frequency or 0, orders),
        Score(_("Monetary"), known.monetary or 0, ""),
    ]


def wallet(customer: Customer) -> dict[str, Any] | None:
    """What they have in points and what it is worth; ``None`` for who never had any."""
    view = statements.account(customer)
    if view.account.pk is None:
        return None
    programme = view.account.programme
    return {"view": view, "value_minor": view.spendable * programme.value_minor_per_100 // 100}


def outlook(customer: Customer, known: CustomerFacts | None) -> dict[str, Any] | None:
    """What the rules in force say of this customer, in words; ``None`` before the first evaluation."""
    rule_set = RuleSet.objects.filter(state=RuleSet.State.PUBLISHED).first()
    if known is None or not known.stage or rule_set is None:
        return None
    now = clock.whole_now()
    parsed = evidence.parsed(rule_set)
    snapshot = conditions.snapshots([customer.pk], parsed.conditions(), now).get(customer.pk)
    if snapshot is None:
        return None
    snapshot |= {"stage": known.stage, "stage_since": seconds(known.stage_since) if known.stage_since else None}
    if "recency" in parsed.fact_names():
        snapshot |= {"last_order_at": seconds(known.last_order_at) if known.last_order_at else None}
    held = pin(customer)
    view = evidence.outlook(
        snapshot, parsed, now, cuts=customer_queries.rfm_cuts(), pinned_until=held.until if held else None
    )
    return {"view": view, "rule_set": rule_set, "sentence": _next_sentence(view)}


def _next_sentence(view: evidence.Outlook) -> str:
    """ "Becomes Dormant on 3 Dec 2026 if nothing happens." """
    if view.flip is None:
        return _("Stays in %(stage)s until they do something: time alone changes nothing.") % {
            "stage": stage_name(view.stage)
        }
    values = {"stage": stage_name(view.flip.to), "date": day(view.flip.on)}
    return _("Becomes %(stage)s on %(date)s if nothing happens.") % values


def pin(customer: Customer) -> Pin | None:
    """The pin that holds them now, if any."""
    try:
        held: Pin = customer.pin
    except Pin.DoesNotExist:
        return None
    return held if held.until > clock.now() else None


def consent_words(customer: Customer) -> list[dict[str, Any]]:
    """The statement in force per purpose and channel; "never asked" where there is none."""
    last: dict[tuple[str, str], Consent] = {}
    for said in Consent.objects.filter(customer=customer, occurred_at__lte=clock.now()).order_by("occurred_at", "pk"):
        last[said.purpose, said.channel] = said
    words = []
    for purpose, label in Consent.Purpose.choices:
        for channel, by in Consent.Channel.choices:
            row = last.get((purpose, channel))
            if row is None and channel != Consent.Channel.EMAIL:
                continue
            words.append({"purpose": label, "channel": by, "row": row})
    return words


def since(customer: Customer) -> str:
    return _("Customer #%(pk)d since %(date)s") % {"pk": customer.pk, "date": day(customer.known_since)}
