"""Tiers: the ladder of a programme, who stands where, and how far it is to the next step.

``evaluate`` decides for the batch of ``facts.batch()`` set-based, so the same statements serve a night and a second. It
decides as of a moment from what was counted before it: who reaches a tier has it at once; who has too little keeps it
through the grace, then steps down. Every change is a row of ``TierChange``; ``TierStanding`` is what they add up to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

from django.db import connection, transaction
from django.utils.text import slugify
from django.utils.translation import gettext as _

from customers import facts, givebacks
from customers.facts import bool_literal
from customers.models import Customer
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.moments import parameter, seconds
from loyalty import programme as programmes
from loyalty.models import EarningRule, Ladder, Merge, Programme, Reward, Tier, TierStanding

LOOKS = "tier_looks"
MONTH_SECONDS = 365 * 86_400 // 12
"""A month of a rolling window, so that twelve of them are 365 days."""
MOST_TIERS = 12
MOST_THRESHOLD = 10**15
MOST_BENEFITS = 20


class BadTiers(InvalidInput):
    """Tiers that make no sense; the sentence says which, and nothing was saved."""

    code = "bad_tiers"


@dataclass(frozen=True, slots=True)
class Step:
    """A tier to be: ``threshold`` in points, minor units or orders, as the ladder counts."""

    name: str
    threshold: int
    benefits: Sequence[str] = ()
    key: str = ""
    perks: Sequence[str] = ()


# --- The ladder -------------------------------------------------------------------------------------------------------


def set_ladder(
    *,
    programme: Programme,
    steps: Sequence[Step],
    measure: str = Ladder.Measure.POINTS,
    window: str = Ladder.Window.ROLLING,
    window_months: int = 12,
    grace_days: int = 0,
    step_down: str = Ladder.StepDown.BALANCE,
) -> Ladder:
    """Say which tiers a programme has and how they are decided; everybody is looked at again, at once and tonight.

    Steps keep their key, or their name's, so that who has a tier keeps it. No steps: no tiers any more. Raises
    ``BadTiers`` and saves nothing for tiers that overlap, a rule that uses a tier that would be gone, and the like.
    """
    made = _checked(programme, steps, measure, window, window_months, grace_days, step_down)
    with transaction.atomic():
        ladder, _new = Ladder.objects.update_or_create(
            programme=programme,
            defaults={
                "measure": measure, "window": window, "window_months": window_months, "grace_days": grace_days,
                "step_down": step_down, "changed_at": clock.now(),
            },
        )  # fmt: skip
        # Thresholds are unique in the table too, so the old ones go first; nothing refers to a tier but by its key.
        Tier.objects.filter(programme=programme).delete()
        Tier.objects.bulk_create(
            Tier(
                programme=programme, key=one.key, name=one.name, threshold=one.threshold, benefits=list(one.benefits),
                perks=list(one.perks),
            )
            for one in made
        )  # fmt: skip
        _look_again(ladder)
    return ladder


def check(*, programme: Programme, steps: Sequence[Step], **values: Any) -> None:
    """Raises ``BadTiers`` where ``set_ladder`` would; nothing is saved."""
    _checked(
        programme,
        steps,
        values.get("measure", Ladder.Measure.POINTS),
        values.get("window", Ladder.Window.ROLLING),
        values.get("window_months", 12),
        values.get("grace_days", 0),
        values.get("step_down", Ladder.StepDown.BALANCE),
    )


def _checked(
    programme: Programme,
    steps: Sequence[Step],
    measure: str,
    window: str,
    window_months: int,
    grace_days: int,
    step_down: str,
) -> list[Step]:
    for value, known, field in (
        (measure, Ladder.Measure.values, "measure"),
        (window, Ladder.Window.values, "window"),
        (step_down, Ladder.StepDown.values, "step_down"),
    ):
        if value not in known:
            raise BadTiers(
                _("“%(value)s” is unknown here. Use one of: %(known)s.") % {"value": value, "known": ", ".join(known)},
                field=field,
            )
    if measure == Ladder.Measure.POINTS and programme.kind != Programme.Kind.POINTS:
        raise BadTiers(_("%(name)s has no points. Count money or orders.") % {"name": programme.name}, field="measure")
    for number, low, high, field, label in (
        (window_months, 1, 120, "window_months", _("Months")),
        (grace_days, 0, 1100, "grace_days", _("Days of grace")),
    ):
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise BadTiers(
                _("%(field)s must be a whole number from %(low)s to %(high)s.")
                % {"field": label, "low": low, "high": high},
                field=field,
            )
    if step_down == Ladder.StepDown.ONE and not grace_days:
        raise BadTiers(
            _("One tier at a time needs days of grace between two steps. Write at least 1."), field="grace_days"
        )
    if len(steps) > MOST_TIERS:
        raise BadTiers(_("A programme has at most %(most)s tiers.") % {"most": MOST_TIERS})
    made = [_step(one) for one in steps]
    seen: dict[str, str] = {}
    for one in made:
        if one.key in seen:
            raise BadTiers(_("Two tiers are called “%(name)s”. Give each its own name.") % {"name": one.name})
        seen[one.key] = one.name
    made.sort(key=lambda one: one.threshold)
    for lower, upper in pairwise(made):
        if lower.threshold == upper.threshold:
            raise BadTiers(
                _("%(lower)s and %(upper)s begin at the same number, so they overlap. Give each its own.")
                % {"lower": lower.name, "upper": upper.name},
                field="threshold",
            )
    for rule in EarningRule.objects.filter(programme=programme, is_current=True).exclude(ends_at__lte=clock.now()):
        if gone := [key for key in rule.tiers if key not in seen]:
            raise BadTiers(
                _("The rule “%(rule)s” is for the tier “%(tier)s”. Change the rule first.")
                % {"rule": rule.name, "tier": gone[0]}
            )
    return made


def _step(one: Step) -> Step:
    name = " ".join((one.name or "").split())
    if not 0 < len(name) <= 60:
        raise BadTiers(_("A tier needs a name of 1 to 60 characters."), field="name")
    number = one.threshold
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= MOST_THRESHOLD:
        raise BadTiers(
            _("%(name)s must begin at a whole number above 0.") % {"name": name}, field="threshold"
        )  # fmt: skip
    benefits = [text for line in one.benefits if (text := " ".join(str(line).split()))]
    if len(benefits) > MOST_BENEFITS or any(len(text) > 200 for text in benefits):
        raise BadTiers(_("A tier has at most 20 benefits of 200 characters each."), field="benefits")
    key = one.key or slugify(name)[:40] or "tier"
    if key != slugify(key) or len(key) > 40:
        raise BadTiers(_("A key has small letters, digits and hyphens only, at most 40."), field="key")
    if unknown := [perk for perk in one.perks if perk not in Reward.Perk.values]:
        raise BadTiers(
            _("“%(value)s” is unknown here. Use one of: %(known)s.")
            % {"value": unknown[0], "known": ", ".join(Reward.Perk.values)},
            field="perks",
        )
    return Step(name, number, tuple(benefits), key, tuple(dict.fromkeys(one.perks)))


def _look_again(ladder: Ladder) -> None:
    """Mark everybody whom this ladder could concern. Quietly: a rule that somebody changed is no news to the customers."""
    counted = "is_counted" if connection.vendor == "postgresql" else "is_counted = 1"
    programme = int(ladder.programme_id)
    who = (
        f"SELECT customer_id FROM loyalty_account WHERE programme_id = {programme}"
        if ladder.measure == Ladder.Measure.POINTS
        else f"SELECT customer_id FROM customers_order WHERE {counted}"
    )
    batches.execute(
        "INSERT INTO customers_dirtycustomer (customer_id, occurred_at, is_history) "
        f"SELECT customer_id, %s, {bool_literal(True)} FROM ({who} UNION "
        f"SELECT customer_id FROM loyalty_tierstanding WHERE programme_id = {programme}) w",
        [seconds(clock.now())],
    )


def ladders() -> list[tuple[Programme, Ladder, list[Tier]]]:
    """The active programmes that have tiers, in their order, the tiers from the lowest up."""
    found = Ladder.objects.filter(programme__is_active=True, programme__tiers__isnull=False).distinct()
    rows = found.select_related("programme").order_by("programme__position", "programme_id")
    return [(one.programme, one, list(one.programme.tiers.order_by("threshold"))) for one in rows]


def main() -> Programme | None:
    """The programme whose tier the facts carry: the first active one that has tiers."""
    found = ladders()
    return found[0][0] if found else None


# --- What is counted --------------------------------------------------------------------------------------------------


def window_start(ladder: Ladder, as_of: datetime) -> datetime | None:
    """The moment from which things count at ``as_of``; ``None``: from the beginning."""
    if ladder.window == Ladder.Window.LIFETIME:
        return None
    if ladder.window == Ladder.Window.CALENDAR:
        # The last instant before the moment decides which year it is: midnight of New Year still looks back.
        return clock.day_start(date(clock.business_date(as_of - timedelta(seconds=1)).year, 1, 1))
    return as_of - timedelta(seconds=ladder.window_months * MONTH_SECONDS)


def counted(ladder: Ladder, customers: str, as_of: datetime) -> tuple[str, list[Any]]:
    """A SELECT of ``customer_id, amount, at`` of everything that counts at a moment, and its parameters.

    ``customers`` is a SELECT of ids. Points are those earned, less what was taken back of them whenever it was: a
    refund lowers the year its order counted in. Gifts by hand do not count.
    """
    start = window_start(ladder, as_of)
    until = parameter(as_of)
    bounds = [until] if start is None else [until, parameter(start)]

    def within(column: str) -> str:
        return f"{column} < %s" + ("" if start is None else f" AND {column} >= %s")

    programme = int(ladder.programme_id)
    whose = _merged(programme, customers)

    def of(alias: str) -> tuple[str, str]:
        """Whom a row counts for, and FROM which rows to take it, as far as its WHERE."""
        if not whose:
            return f"{alias}.customer_id", f"WHERE {alias}.customer_id IN ({customers})"
        return "w.now", f"JOIN ({whose}) w ON w.old = {alias}.customer_id WHERE 1 = 1"

    if ladder.measure == Ladder.Measure.POINTS:
        (who, rows), (whom, returns) = of("e"), of("r")
        return (
            f"SELECT {who} AS customer_id, e.points AS amount, e.effective_at AS at FROM loyalty_entry e "
            f"{rows} AND e.programme_id = {programme} AND e.kind = 'earn' AND {within('e.effective_at')} "
            f"UNION ALL SELECT {whom}, r.points, e.effective_at FROM loyalty_entry r "
            f"JOIN loyalty_entry e ON e.id = r.takes_back_id {returns} "
            f"AND r.programme_id = {programme} AND r.takes_back_id IS NOT NULL AND r.effective_at < %s "
            f"AND e.kind = 'earn' AND {within('e.effective_at')}",
            [*bounds, until, *bounds],
        )
    amount = "base_minor" if ladder.measure == Ladder.Measure.SPEND else "orders"
    asked = f"SELECT w.old FROM ({whose}) w" if whose else customers
    placed, params = givebacks.orders(as_of, f"o.customer_id IN ({asked})")
    who, rows = of("o")
    return (
        f"SELECT {who} AS customer_id, o.{amount} AS amount, o.placed_at AS at FROM ({placed}) AS o "
        f"{rows} AND {within('o.placed_at')}",
        [*params, *bounds],
    )


def _merged(programme: int, customers: str) -> str:
    """A SELECT of ``old, now``: what ``old`` did counts for ``now``, one of these customers; "" while nobody is merged.

    Who was merged away counts for nobody else, and nothing counts for them as long as the merge stands.
    """
    if not Merge.objects.filter(programme=programme, undone_at=None).exists():
        return ""
    pair = (
        "loyalty_merge m JOIN loyalty_account f ON f.id = m.from_account_id "
        f"JOIN loyalty_account i ON i.id = m.into_account_id AND m.undone_at IS NULL AND m.programme_id = {programme}"
    )
    return (
        f"WITH RECURSIVE asked(id) AS ({customers}), line(old, now) AS ("
        f"SELECT f.customer_id, i.customer_id FROM {pair} WHERE i.customer_id IN (SELECT id FROM asked) "
        f"UNION SELECT f.customer_id, l.now FROM line l CROSS JOIN {pair} WHERE i.customer_id = l.old) "
        "SELECT x.old, x.now FROM (SELECT old, now FROM line UNION ALL SELECT id, id FROM asked) x "
        f"WHERE NOT EXISTS (SELECT 1 FROM {pair} WHERE f.customer_id = x.now)"
    )


# --- Deciding ---------------------------------------------------------------------------------------------------------


def evaluate(*, as_of: datetime) -> int:
    """Decide the tiers of those of the batch at hand to whom something happened, in every programme; how many changed.

    Time alone is something that happens, and ``wake`` tells of it: between two nights nobody's tier hangs on the clock.
    Who changed after ``as_of`` already is left alone: a late night does not take back what was reached since.
    """
    return sum(_evaluate(programme, ladder, tiers, as_of) for programme, ladder, tiers in ladders())


def rank(column: str, tiers: Sequence[Tier]) -> str:
    """SQL: the place of a tier's key on the ladder, 1 for the lowest, 0 for none."""
    whens = " ".join(f"WHEN '{one.key}' THEN {place}" for place, one in enumerate(tiers, 1))
    return f"(CASE {column} {whens} ELSE 0 END)"


def reached(column: str, tiers: Sequence[Tier]) -> str:
    """SQL: the place of the highest tier that a counted number reaches."""
    whens = " ".join(
        f"WHEN {column} >= {one.threshold} THEN {place}" for place, one in reversed([*enumerate(tiers, 1)])
    )
    return f"(CASE {whens} ELSE 0 END)"


def _key(column: str, tiers: Sequence[Tier]) -> str:
    return f"(CASE {column} " + " ".join(f"WHEN {n} THEN '{t.key}'" for n, t in enumerate(tiers, 1)) + " ELSE '' END)"


def _later(column: str, length: int) -> str:
    """SQL: a moment so many seconds later; on SQLite at whole seconds, rounded up."""
    if connection.vendor == "postgresql":
        return f"{column} + interval '{length} seconds'"
    return f"strftime('%%Y-%%m-%%d %%H:%%M:%%S', {column}, '+{length + 1} seconds')"


def _evaluate(programme: Programme, ladder: Ladder, tiers: Sequence[Tier], as_of: datetime) -> int:
    moment = "timestamptz" if connection.vendor == "postgresql" else "text"
    batches.scratch(
        LOOKS,
        f"customer_id bigint PRIMARY KEY, counted bigint NOT NULL, oldest {moment}, is_in integer NOT NULL, "
        f"tier text NOT NULL, rank integer NOT NULL, grace_until {moment}, check_at {moment}, is_known integer NOT NULL, "
        f"reached integer NOT NULL, new integer NOT NULL DEFAULT 0, new_grace {moment}, new_check {moment}, "
        "is_history boolean NOT NULL",
    )
    picked = f"SELECT customer_id FROM {facts.PICKED}"
    values, params = counted(ladder, picked, as_of)
    now = parameter(as_of)
    typed = "CAST(%s AS timestamptz)" if connection.vendor == "postgresql" else "%s"
    found = batches.execute(
        f"""
        INSERT INTO {LOOKS} (customer_id, counted, oldest, is_in, tier, rank, grace_until, check_at, is_known, reached,
                             is_history)
        SELECT p.customer_id, coalesce(v.counted, 0), v.oldest,
               CASE WHEN {programmes.inside(programme, "p.customer_id", "n.now")} THEN 1 ELSE 0 END,
               coalesce(s.tier, ''), {rank("coalesce(s.tier, '')", tiers)}, s.grace_until, s.check_at,
               CASE WHEN s.id IS NULL THEN 0 ELSE 1 END, {reached("coalesce(v.counted, 0)", tiers)},
               p.is_history OR c.loaded_at >= n.now
        FROM (SELECT {typed} AS now) n
        CROSS JOIN {facts.PICKED} p
        JOIN customers_customer c ON c.id = p.customer_id
        LEFT JOIN (
            SELECT customer_id, CAST(sum(amount) AS bigint) AS counted, min(at) AS oldest FROM ({values}) w
            GROUP BY customer_id
        ) v ON v.customer_id = p.customer_id
        LEFT JOIN loyalty_tierstanding s ON s.customer_id = p.customer_id AND s.programme_id = {int(programme.pk)}
        WHERE p.is_dirty AND ((s.id IS NULL AND coalesce(v.counted, 0) >= {tiers[0].threshold}) OR s.since <= n.now)
        """,
        [now, *params],
    )
    if not found:
        return 0
    until = parameter(as_of + timedelta(days=ladder.grace_days))
    fallen = "reached" if ladder.step_down == Ladder.StepDown.BALANCE else "rank - 1"
    batches.execute(f"UPDATE {LOOKS} SET reached = 0 WHERE is_in = 0")
    batches.execute(
        f"""
        UPDATE {LOOKS} SET new = CASE
            WHEN reached >= rank THEN reached
            WHEN is_in = 0 OR {int(ladder.grace_days)} = 0 THEN reached
            WHEN grace_until IS NULL OR grace_until > %s THEN rank
            ELSE {fallen} END
        """,
        [now],
    )
    batches.execute(
        f"""
        UPDATE {LOOKS} SET new_grace = CASE
            WHEN new <= reached THEN NULL
            WHEN new = rank AND grace_until IS NOT NULL THEN grace_until
            ELSE {typed} END
        """,
        [until],
    )
    batches.execute(f"UPDATE {LOOKS} SET new_check = {_check_at(ladder, as_of)}")
    batches.execute(
        f"UPDATE {LOOKS} SET new_check = new_grace WHERE new_grace IS NOT NULL "
        "AND (new_check IS NULL OR new_check > new_grace)"
    )
    key = _key("new", tiers)
    differs = " OR ".join(
        (f"{key} <> tier", facts.differs("new_grace", "grace_until"), facts.differs("new_check", "check_at"))
    )
    batches.execute(f"DELETE FROM {LOOKS} WHERE NOT ({differs}) OR (is_known = 0 AND new = 0)")
    changed = batches.execute(
        f"""
        INSERT INTO loyalty_tierchange (programme_id, customer_id, kind, from_tier, to_tier, counted, effective_at,
                                        recorded_at, is_history)
        SELECT {int(programme.pk)}, customer_id, CASE WHEN new > rank THEN 'up' ELSE 'down' END, tier, {key}, counted,
               {typed}, {typed}, is_history
        FROM {LOOKS} WHERE {key} <> tier ORDER BY customer_id
        """,
        [now, parameter(clock.now())],
    )
    batches.execute(
        f"""
        INSERT INTO loyalty_tierstanding AS s (programme_id, customer_id, tier, since, counted, grace_until, check_at)
        SELECT {int(programme.pk)}, customer_id, {key}, {typed}, counted, new_grace, new_check
        FROM {LOOKS} WHERE true ORDER BY customer_id
        ON CONFLICT (programme_id, customer_id) DO UPDATE SET
            since = CASE WHEN s.tier = excluded.tier THEN s.since ELSE excluded.since END,
            tier = excluded.tier, counted = excluded.counted, grace_until = excluded.grace_until,
            check_at = excluded.check_at
        """,
        [now],
    )
    return changed


def _check_at(ladder: Ladder, as_of: datetime) -> str:
    """SQL over the looks: the first moment at which time alone could lower what is counted, for who has a tier."""
    if ladder.window == Ladder.Window.LIFETIME:
        return "NULL"
    if ladder.window == Ladder.Window.ROLLING:
        after = _later("oldest", ladder.window_months * MONTH_SECONDS)
        return f"CASE WHEN new > 0 AND oldest IS NOT NULL THEN {after} END"
    start = window_start(ladder, as_of)
    assert start is not None
    new_year = clock.day_start(date(clock.business_date(start).year + 1, 1, 1)) + timedelta(seconds=1)
    cast = "timestamptz" if connection.vendor == "postgresql" else "text"
    return f"CASE WHEN new > 0 AND counted > 0 THEN CAST('{_literal(new_year)}' AS {cast}) END"


def _literal(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" + ("+00" if connection.vendor == "postgresql" else "")


def wake(*, as_of: datetime, low: int, high: int) -> int:
    """Mark who, of customers with ids in ``[low, high)``, time alone could move by ``as_of``; how many.

    Things leave the window, a grace or a membership is over.
    """
    due = parameter(as_of)
    return batches.execute(
        "INSERT INTO customers_dirtycustomer (customer_id, occurred_at, is_history) "
        f"SELECT w.customer_id, CAST(%s AS bigint), {bool_literal(False)} FROM ("
        "SELECT s.customer_id, s.programme_id FROM loyalty_tierstanding s WHERE s.check_at <= %s "
        "UNION SELECT s.customer_id, s.programme_id FROM loyalty_membership m JOIN loyalty_tierstanding s "
        "ON s.customer_id = m.customer_id AND s.programme_id = m.programme_id "
        "WHERE s.tier <> '' AND m.left_at IS NULL AND m.ends_at <= %s"
        f") w JOIN loyalty_programme p ON p.id = w.programme_id AND p.is_active = {bool_literal(True)} "
        "WHERE w.customer_id >= %s AND w.customer_id < %s GROUP BY w.customer_id",
        [seconds(as_of) - 1, due, due, low, high],
    )


# --- One customer -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """Where one customer stands, and what is missing to the next tier (``None`` at the top).

    ``counted``, ``missing`` and thresholds are points, minor units or orders, as ``ladder.measure`` says. ``renews_at``
    is when a calendar window begins anew; ``grace_until`` is set while they have too little for the tier they hold.
    """

    programme: Programme
    ladder: Ladder
    tier: Tier | None
    following: Tier | None
    counted: int
    missing: int
    since: datetime | None
    grace_until: datetime | None
    renews_at: datetime | None

    @property
    def share(self) -> float:
        """How much of the way to the next tier is done, from 0 to 1."""
        if self.following is None:
            return 1.0
        return min(1.0, max(0, self.counted) / self.following.threshold)


def progress(customer: Customer, programme: Programme, *, as_of: datetime | None = None) -> Progress | None:
    """How far one customer is, to the second; ``None`` for a programme without tiers or a customer who is not in it."""
    now = as_of or clock.now()
    ladder = Ladder.objects.filter(programme=programme).first()
    tiers = list(programme.tiers.order_by("threshold"))
    if ladder is None or not tiers or not programmes.is_in(programme, customer, now):
        return None
    values, params = counted(ladder, f"SELECT {int(customer.pk)}", now)
    [(amount,)] = batches.rows(f"SELECT coalesce(sum(amount), 0) FROM ({values}) w", params)
    standing = TierStanding.objects.filter(programme=programme, customer=customer).first()
    held = next((one for one in tiers if standing is not None and one.key == standing.tier), None)
    following = next(
        (one for one in tiers if one.threshold > amount and (held is None or one.threshold > held.threshold)), None
    )
    renews = None
    if ladder.window == Ladder.Window.CALENDAR:
        renews = clock.day_start(date(clock.business_date(now).year + 1, 1, 1))
    return Progress(
        programme=programme,
        ladder=ladder,
        tier=held,
        following=following,
        counted=int(amount),
        missing=max(0, following.threshold - int(amount)) if following else 0,
        since=standing.since if standing and held else None,
        grace_until=standing.grace_until if standing else None,
        renews_at=renews,
    )


@dataclass(frozen=True, slots=True)
class Given:
    """What a tier gives one customer now: ``perks`` are keys of ``Reward.Perk``, ``more`` rules only for that tier."""

    programme: Programme
    tier: Tier
    until: datetime | None
    more: Sequence[EarningRule]

    @property
    def perks(self) -> Sequence[str]:
        return list(self.tier.perks)


def given(customer: Customer, *, as_of: datetime | None = None) -> list[Given]:
    """The benefits a customer has by their tiers, in the order of the programmes. ``until``: the end of their grace."""
    now = as_of or clock.now()
    standings = TierStanding.objects.filter(customer=customer, programme__is_active=True).exclude(tier="")
    found = []
    for standing in standings.select_related("programme").order_by("programme__position", "programme"):
        tier = Tier.objects.filter(programme=standing.programme, key=standing.tier).first()
        if tier is not None:
            held = EarningRule.objects.filter(programme=standing.programme, is_current=True)
            more = [one for one in held.exclude(ends_at__lte=now).order_by("position", "pk") if tier.key in one.tiers]
            found.append(Given(standing.programme, tier, standing.grace_until, more))
    return found


def members_per_tier(programme: Programme) -> dict[str, int]:
    """How many customers hold each tier now, by key."""
    return dict(
        batches.rows(
            "SELECT tier, count(*) FROM loyalty_tierstanding WHERE programme_id = %s AND tier <> '' GROUP BY tier",
            [programme.pk],
        )
    )


def names(programme: Programme | None) -> Mapping[str, str]:
    """Names of the tiers of a programme by key."""
    return dict(Tier.objects.filter(programme=programme).values_list("key", "name")) if programme else {}


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
