"""Try a rule: what one order, or one thing that happens, would earn now, in a programme with that rule in it.

The thing is written down as if it had happened, told to ``tally`` as earning tells it, and the transaction is given up:
nothing stays, and the answer is the number and the sentence that the entry would carry. Rules count as if they had always
held, as in ``whatif``, so that an order of last week can be tried with a rule of today.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.utils.translation import gettext as _

from customers.models import Customer, Event, Order, OrderLine, Product
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import NotFound
from lifecycle_crm.lib.numbers import row_number
from loyalty import causes, rules, sentences, tally, whatif
from loyalty.ledger import MOST_POINTS
from loyalty.models import EarningRule, Membership, Programme, RuleUse

SOURCE = "trial"
Kind = EarningRule.Kind


@dataclass(frozen=True, slots=True)
class Outcome:
    """So many points, and why, as the entry would say; no points: ``because`` is empty."""

    points: int
    because: str


def find_order(number: str) -> Order:
    """The order with this number at its source, or our own number. Raises ``NotFound``."""
    text = number.strip().removeprefix("#")
    found = Order.objects.filter(source_id=text).order_by("-placed_at").first()
    if found is None and (own := row_number(text)):
        found = Order.objects.filter(pk=own).first()
    if found is None:
        raise NotFound(_("There is no order with this number. Copy it from the customer's page."), field="order")
    return found


def ask(
    *,
    programme: Programme,
    rule: EarningRule,
    order: Order | None = None,
    customer: Customer | None = None,
    amount_minor: int = 0,
    value: int = 1,
) -> Outcome:
    """What an ``order`` would earn; or an order of ``amount_minor``, or what else the rule is about with ``value`` in the
    property it counts, by ``customer`` now (``None``: somebody new). ``rule`` may be saved or not. Raises ``BadRule``."""
    rules.check(rule)
    with batches.rehearsal():
        who = customer or (order.customer if order else _somebody(programme))
        together = [whatif.since_ever(one) for one in whatif.rules_with(programme, rule)]
        tally.begin()
        _tell(rule, together, who, order, amount_minor, value)
        return _outcome(programme, together)


def _somebody(programme: Programme) -> Customer:
    """Somebody who came just now, and is in the programme."""
    now = clock.now()
    someone = Customer.objects.create(name=SOURCE, known_since=now - timedelta(seconds=1))
    if programme.joining != Programme.Joining.EVERYBODY:
        Membership.objects.create(
            programme=programme, customer=someone, number=SOURCE, joined_at=now - timedelta(seconds=1)
        )
    return someone


def _tell(
    rule: EarningRule,
    together: Sequence[EarningRule],
    who: Customer,
    order: Order | None,
    amount_minor: int,
    value: int,
) -> None:
    now = clock.now()
    name = tally.event_name(rule)
    if order is not None:
        RuleUse.objects.filter(cause=f"order:{order.pk}").delete()  # It counts once, and that is now.
        causes.add_orders([order.pk])
    elif rules.is_about_orders(rule):
        causes.add_orders([_order(rule, who, amount_minor, now).pk])
    elif name:
        done = Event.objects.create(
            customer=who, name=name, occurred_at=now, source=SOURCE, source_id=SOURCE,
            properties={one.property: value for one in together if one.property},
        )  # fmt: skip
        causes.add_events([done.pk], [name])
    else:
        causes.add([causes.Cause(SOURCE, rule.kind, who.pk, now, rule.subject, rule.kind)])


def _order(rule: EarningRule, who: Customer, amount_minor: int, now: datetime) -> Order:
    """An order of so much, all of it the product or category that the rule is about, through its first channel."""
    order = Order.objects.create(
        customer=who, source=(rule.channels or [SOURCE])[0], source_id=SOURCE, placed_at=now, currency=settings.SHOP_CURRENCY,
        amount_minor=amount_minor, base_minor=amount_minor, items=1,
    )  # fmt: skip
    column = {Kind.PRODUCT: "sku", Kind.CATEGORY: "category"}.get(Kind(rule.kind))
    if column:
        product = Product.objects.filter(**{column: rule.subject}).order_by("pk").first()
        if product is None:
            raise NotFound(_("We know no product of this kind yet, so nothing can be tried."), field="subject")
        OrderLine.objects.create(order=order, product=product, title=product.name, unit_minor=amount_minor)
    return order


def _outcome(programme: Programme, together: Sequence[EarningRule]) -> Outcome:
    if not tally.count(programme, together):
        return Outcome(0, "")
    tally.limit(programme, together)
    select, params = tally.totals(settings.SHOP_CURRENCY)
    for _cause, points, explanation in batches.rows(select, params):
        return Outcome(min(points, MOST_POINTS), sentences.earned(json.loads(explanation)))
    return Outcome(0, "")
