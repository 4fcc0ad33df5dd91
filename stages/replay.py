"""Past nights decided again, for a part of the customers, by several rule sets beside each other. Nothing of it is kept.

The facts are made by the statements the night itself uses, in a temporary table that goes by the name of the real one: both
databases look there first. So the shop's own rows are neither written nor locked, and what is said about the past cannot
differ from what a night says. As in a night, only those are looked at to whom something happened, or whose answer time may
have changed; and the decision is ``rules.decide_sql``, the engine's own.

What nobody kept the past of is taken as it is today: points and tier. A moment that is later
than the night (the last click, if it was since) is not set that night.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection

from customers import conditions, facts, givebacks
from customers.conditions import Snapshot, Times, count_of
from customers.models import CustomerFacts, RfmChange, RfmCuts
from customers.vocabulary import FACTS, Kind
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import DAY, epoch, parameter, seconds
from stages import rules as rulebook
from stages.models import StageTransition
from stages.rules import Rules

FLAP_DAYS = 14
"""A move back into the stage one left at most so many nights before is a flap."""
NAMED = 20
"""How many customers are told one by one."""

HandDown = Callable[..., Any]
"""Brings the facts of the batch at hand up to ``as_of``; the roof hands it in, because higher floors have numbers too."""

Pair = tuple[str, str]

_FACTS = "customers_customerfacts"
_CUTS, _GROUPS = RfmCuts._meta.db_table, RfmChange._meta.db_table
_MOVES = "replay_moves"
_COLUMNS = [f.column for f in CustomerFacts._meta.concrete_fields if f.column not in ("stage", "stage_since")]
_MOMENTS = [name for name, fact in FACTS.items() if fact.kind is Kind.MOMENT and name != "stage_since"]


@dataclass
class Side:
    """One rule set and what it did in this part. Days index into the nights; a pair is ``(from, to)``."""

    name: str
    rules: Rules
    counts: dict[int, Counter[str]] = field(default_factory=dict)
    """Customers per stage at the end of the nights asked for."""
    first: int = 0
    """How many it moves in the first night, because they stood elsewhere before. Not among the moves."""
    moves: Counter[tuple[int, Pair]] = field(default_factory=Counter)
    flaps: int = 0
    flapped: int = 0
    revenue: dict[Pair, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """How often which amount (minor units) was bought for in the days after a move."""

    @property
    def table(self) -> str:
        return f"replay_{self.name}"


@dataclass
class Part:
    """What a part of the customers gave. ``flapped`` and ``differ`` are examples, as the result of a replay keeps them."""

    customers: int
    differ: int = 0
    flapped: list[dict[str, Any]] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)


def run(
    *,
    ids: Sequence[int],
    days: Sequence[date],
    old: Side,
    new: Side,
    hand_down: HandDown,
    happened: Iterable[str],
    counted: frozenset[int],
    revenue_days: int,
) -> Part:
    """Decide the nights of ``days`` (consecutive, in order) for the customers ``ids`` by both sides, which it fills.

    ``happened``: SELECTs of ``customer_id, moment`` of the rows higher floors hand numbers down from. ``counted``: after
    which nights everybody is counted.
    """
    with _private(), batches.rehearsal():
        return _Replay(ids, days, (old, new), hand_down).run(happened, counted, revenue_days)


@contextmanager
def _private() -> Iterator[None]:
    """Write to temporary tables only: on SQLite without the write lock, so that the shop goes on meanwhile."""
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    mode = connection.transaction_mode  # type: ignore[attr-defined]
    connection.transaction_mode = "DEFERRED"  # type: ignore[attr-defined]
    try:
        yield
    finally:
        connection.transaction_mode = mode  # type: ignore[attr-defined]


class _Replay:
    def __init__(self, ids: Sequence[int], days: Sequence[date], sides: tuple[Side, Side], hand_down: HandDown) -> None:
        self.ids = ids
        self.days = days
        self.ends = [clock.day_end(day) for day in days]
        self.seconds = [seconds(end) for end in self.ends]
        self.sides = sides
        self.hand_down = hand_down
        self.listed = ", ".join(str(int(pk)) for pk in ids) or "NULL"
        self.cuts: list[RfmCuts] = []
        self.where = "" if connection.vendor == "postgresql" else "temp."
        self.named_flaps: list[dict[str, Any]] = []
        self.is_named: set[int] = set()

    def run(self, happened: Iterable[str], counted: frozenset[int], revenue_days: int) -> Part:
        self._shadow_the_facts()
        self._shadow_the_scores()
        touched = self._touched(happened)
        self._stand_where_they_stood()
        for night, day in enumerate(self.days):
            new_cuts = [cuts for cuts in self.cuts if cuts.computed_on == day]
            RfmCuts.objects.bulk_create(new_cuts)
            self._night(night, touched.get(night, ()), everybody=bool(new_cuts))
            if night in counted:
                for side in self.sides:
                    stood = batches.rows(f"SELECT stage, count(*) FROM {side.table} GROUP BY stage")
                    side.counts[night] = Counter(dict(stood))
        part = Part(customers=len(self.ids), flapped=self.named_flaps)
        self._sum_up(revenue_days)
        self._compare(part)
        return part

    # --- Before the first night -------------------------------------------------------------------------------------------

    def _shadow_the_facts(self) -> None:
        """Today's rows of these customers under the name of the real table; scores are made when their cuts are known."""
        batches.execute(
            f"CREATE TEMPORARY TABLE {_FACTS} AS SELECT * FROM {_FACTS} WHERE customer_id IN ({self.listed})"
        )
        batches.execute(f"CREATE UNIQUE INDEX {self.where}replay_facts ON {_FACTS} (customer_id)")
        batches.execute(f"UPDATE {_FACTS} SET recency = NULL, frequency = NULL, monetary = NULL")
        for side in self.sides:
            batches.execute(
                f"CREATE TEMPORARY TABLE {side.table} (customer_id bigint PRIMARY KEY, stage varchar(12) NOT NULL, "
                "stage_since bigint, review bigint, came_from varchar(12) NOT NULL, moved_night integer NOT NULL)"
            )
        batches.execute(
            f"CREATE TEMPORARY TABLE {_MOVES} (side varchar(8) NOT NULL, night integer NOT NULL, customer_id bigint NOT NULL, "
            "at bigint NOT NULL, source varchar(12) NOT NULL, target varchar(12) NOT NULL, rule integer NOT NULL, "
            "is_flap boolean NOT NULL, PRIMARY KEY (side, night, customer_id))"
        )

    def _shadow_the_scores(self) -> None:
        """The cut points there were before the first night; the others follow in theirs, as they did. And an empty history
        of groups, because the verb that writes scores writes that, too."""
        self.cuts = list(RfmCuts.objects.filter(computed_on__gte=self.days[0]))
        batches.execute(f"CREATE TEMPORARY TABLE {_CUTS} AS SELECT * FROM {_CUTS}")
        RfmCuts.objects.filter(computed_on__gte=self.days[0]).delete()
        batches.execute(
            f"CREATE TEMPORARY TABLE {_GROUPS} AS SELECT * FROM {_GROUPS} WHERE {facts.bool_literal(False)}"
        )
        batches.execute(f"CREATE INDEX {self.where}replay_groups ON {_GROUPS} (customer_id)")

    def _touched(self, happened: Iterable[str]) -> dict[int, set[int]]:
        """Whose facts are behind, by the night that first sees it; nobody before they are known."""
        known = dict(
            batches.rows(f"SELECT id, {epoch('known_since')} FROM customers_customer WHERE id IN ({self.listed})")
        )
        known = {pk: night for pk, at in known.items() if (night := bisect_right(self.seconds, at)) < len(self.days)}
        found: dict[int, set[int]] = defaultdict(set)
        for pk, night in known.items():
            found[night].add(pk)
        sources = [
            "SELECT customer_id, placed_at AS moment FROM customers_order",
            "SELECT customer_id, occurred_at AS moment FROM customers_event",
            "SELECT customer_id, occurred_at AS moment FROM customers_consent",
            f"SELECT customer_id, occurred_at AS moment FROM {givebacks.GIVEN_BACK} b",
            *happened,
        ]
        first, last = parameter(self.ends[0]), parameter(self.ends[-1])
        for source in sources:
            for pk, at in batches.rows(
                f"SELECT h.customer_id, {epoch('h.moment')} FROM ({source}) h "
                f"WHERE h.customer_id IN ({self.listed}) AND h.moment >= %s AND h.moment < %s",
                [first, last],
            ):
                if pk in known:
                    found[max(known[pk], bisect_right(self.seconds, at))].add(pk)
        for name in _MOMENTS:
            for pk, at in batches.rows(f"SELECT customer_id, {name} FROM {_FACTS} WHERE {name} >= {self.seconds[0]}"):
                if pk in known:
                    found[max(known[pk], bisect_right(self.seconds, at))].add(pk)
        return found

    def _stand_where_they_stood(self) -> None:
        """Both sides begin with where people really stood before the first night; who did not yet, without a stage."""
        start = parameter(clock.day_start(self.days[0]))
        undo = StageTransition.Kind.UNDO.value
        for side in self.sides:
            batches.execute(
                f"""
                INSERT INTO {side.table} (customer_id, stage, stage_since, review, came_from, moved_night)
                SELECT t.customer_id, t.to_stage, {epoch("t.occurred_at")}, NULL, '', -1
                FROM stages_stagetransition t
                JOIN (
                    SELECT customer_id, max(id) AS id FROM stages_stagetransition m
                    WHERE m.customer_id IN ({self.listed}) AND m.occurred_at <= %s AND m.kind <> '{undo}'
                      AND NOT EXISTS (SELECT 1 FROM stages_stagetransition u WHERE u.undoes_id = m.id)
                    GROUP BY customer_id
                ) last ON last.id = t.id
                """,
                [start],
            )

    # --- A night ----------------------------------------------------------------------------------------------------------

    def _night(self, night: int, touched: Iterable[int], *, everybody: bool) -> None:
        as_of, now = self.ends[night], self.seconds[night]
        # Nobody is "dirty": what follows from news for the shop itself (tiers) happened when it was news.
        with facts.batch():
            picked = 0
            for some in batches.of(touched, 1000):
                ids = ", ".join(str(int(pk)) for pk in some)
                picked += facts.pick(f"SELECT id FROM customers_customer WHERE id IN ({ids})")
            if picked:
                self.hand_down(as_of=as_of)
            for side in self.sides:
                due = "" if everybody else f"review <= {now} AND "
                picked += facts.pick(
                    f"SELECT customer_id AS id FROM {side.table} s WHERE {due}"
                    f"EXISTS (SELECT 1 FROM {_FACTS} f WHERE f.customer_id = s.customer_id)"
                )
            if not picked:
                return
            facts.score(as_of=as_of)
        if night == 0 and connection.vendor == "postgresql":
            for table in (_FACTS, *(side.table for side in self.sides)):
                batches.execute(f"ANALYZE {table}")
        cuts = facts.cuts(clock.business_date(as_of))
        for side in self.sides:
            self._decide(side, night, as_of, cuts)

    def _seen(self, side: Side, now: int) -> str:
        """A SELECT of the batch's facts as this night knows them, with the stage this side has them in."""
        columns = ", ".join(
            f"CASE WHEN c.{name} < {now} THEN c.{name} END AS {name}" if name in _MOMENTS else f"c.{name}"
            for name in _COLUMNS
        )
        return (
            f"SELECT {columns}, s.stage, s.stage_since, s.came_from, s.moved_night FROM {facts.PICKED} p "
            f"JOIN {side.table} s ON s.customer_id = p.customer_id JOIN {_FACTS} c ON c.customer_id = p.customer_id"
        )

    def _decide(self, side: Side, night: int, as_of: datetime, cuts: RfmCuts | None) -> None:
        """``engine.evaluate`` for one side: who moves, and when everybody of the batch is looked at again."""
        now = self.seconds[night]
        batches.execute(
            f"INSERT INTO {side.table} SELECT p.customer_id, '', NULL, NULL, '', -1 FROM {facts.PICKED} p "
            "WHERE true ON CONFLICT (customer_id) DO NOTHING"
        )
        seen = self._seen(side, now)
        decided, params = rulebook.decide_sql(side.rules, as_of)
        rules = list(side.rules)
        target = "CASE d.rule " + " ".join(f"WHEN {i} THEN '{rule.to}'" for i, rule in enumerate(rules)) + " END"
        waits = "".join(f" WHEN {i} THEN {rule.stay_days * DAY}" for i, rule in enumerate(rules) if rule.stay_days)
        wait = f"CASE d.rule{waits} ELSE 0 END" if waits else "0"
        flap = f"(d.came_from = {target} AND {night} - d.moved_night <= {FLAP_DAYS})"
        moved = batches.execute(
            f"""
            INSERT INTO {_MOVES} (side, night, customer_id, at, source, target, rule, is_flap)
            SELECT '{side.name}', {night}, d.customer_id, {now}, d.stage, {target}, d.rule, {flap}
            FROM (
                SELECT f.customer_id, f.stage, f.stage_since, f.came_from, f.moved_night, {decided} AS rule FROM ({seen}) f
            ) d
            WHERE {target} <> d.stage AND (d.stage = '' OR d.stage_since + {wait} <= {now})
            """,
            params,
        )
        mine = f"m.side = '{side.name}' AND m.night = {night}"
        if moved:
            self._name_flaps(side, night, as_of, mine)
            # What the first night does is a new beginning, not a move that the rules made in the course of time.
            came_from = "''" if night == 0 else "m.source"
            batches.execute(
                f"UPDATE {side.table} SET stage = m.target, stage_since = m.at, came_from = {came_from}, moved_night = m.night "
                f"FROM {_MOVES} m WHERE {mine} AND m.customer_id = {side.table}.customer_id"
            )
        review, review_params = rulebook.next_review_sql(side.rules, cuts, as_of)
        batches.execute(
            f"""
            UPDATE {side.table} SET review = n.review
            FROM (
                SELECT v.customer_id, CASE WHEN m.customer_id IS NOT NULL THEN {now + 1} ELSE v.review END AS review
                FROM (SELECT f.customer_id, {review} AS review FROM ({seen}) f) v
                LEFT JOIN {_MOVES} m ON {mine} AND m.customer_id = v.customer_id
            ) AS n
            WHERE {side.table}.customer_id = n.customer_id AND {facts.differs(f"{side.table}.review", "n.review")}
            """,
            review_params,
        )

    def _name_flaps(self, side: Side, night: int, as_of: datetime, mine: str) -> None:
        if side is not self.sides[1] or len(self.named_flaps) >= NAMED:
            return
        back = batches.rows(
            f"SELECT m.customer_id, m.source, m.target, m.rule, {night} - s.moved_night FROM {_MOVES} m "
            f"JOIN {side.table} s ON s.customer_id = m.customer_id WHERE {mine} AND m.is_flap ORDER BY m.customer_id"
        )
        back = [row for row in back if row[0] not in self.is_named][: NAMED - len(self.named_flaps)]
        values = self._evidence([row[0] for row in back], side, as_of)
        for pk, source, target, rule, after in back:
            self.is_named.add(pk)
            self.named_flaps.append(
                {
                    "customer": pk,
                    "day": self.days[night].isoformat(),
                    "source": source,
                    "target": target,
                    "rule": list(side.rules)[rule].key,
                    "after": after,
                    "evidence": values[pk],
                }
            )

    def _evidence(self, ids: Sequence[int], side: Side, as_of: datetime) -> dict[int, dict[str, Any]]:
        """The value of every fact this side's rules look at, and how often what they count had happened."""
        if not ids:
            return {}
        snapshots = conditions.snapshots(ids, side.rules.conditions(), as_of)
        listed = ", ".join(str(int(pk)) for pk in ids)
        stood = {
            pk: {"stage": stage, "stage_since": since}
            for pk, stage, since in batches.rows(
                f"SELECT customer_id, stage, stage_since FROM {side.table} WHERE customer_id IN ({listed})"
            )
        }
        now = seconds(as_of)
        return {pk: _plain(snapshots[pk] | stood[pk], side.rules.counts(), now) for pk in ids}

    # --- After the last ---------------------------------------------------------------------------------------------------

    def _sum_up(self, revenue_days: int) -> None:
        by_name = {side.name: side for side in self.sides}
        for name, night, source, target, count in batches.rows(
            f"SELECT side, night, source, target, count(*) FROM {_MOVES} WHERE source <> '' "
            "GROUP BY side, night, source, target"
        ):
            if night == 0:
                by_name[name].first += count
            else:
                by_name[name].moves[night, (source, target)] += count
        for name, flaps, customers in batches.rows(
            f"SELECT side, count(*), count(DISTINCT customer_id) FROM {_MOVES} WHERE is_flap GROUP BY side"
        ):
            by_name[name].flaps, by_name[name].flapped = flaps, customers
        span, end = revenue_days * DAY, self.seconds[-1]
        counted = "o.is_counted" if connection.vendor == "postgresql" else "o.is_counted = 1"
        placed = epoch("o.placed_at")
        for name, source, target, bought, times in batches.rows(
            f"""
            SELECT side, source, target, bought, count(*) FROM (
                SELECT m.side, m.source, m.target, m.night, m.customer_id, coalesce(sum(o.base_minor), 0) AS bought
                FROM {_MOVES} m
                LEFT JOIN customers_order o ON o.customer_id = m.customer_id AND {counted}
                     AND o.placed_at >= %s AND {placed} >= m.at AND {placed} < m.at + {span}
                WHERE m.source <> '' AND m.night > 0 AND m.at + {span} <= {end}
                GROUP BY m.side, m.source, m.target, m.night, m.customer_id
            ) b GROUP BY side, source, target, bought
            """,
            [parameter(self.ends[0])],
        ):
            by_name[name].revenue[source, target][int(bought)] += times

    def _compare(self, part: Part) -> None:
        """Who stands elsewhere by the new side than by the old one; of those who spent most, why by each."""
        old, new = self.sides
        apart = (
            f"FROM {new.table} n JOIN {old.table} o ON o.customer_id = n.customer_id "
            f"JOIN {_FACTS} f ON f.customer_id = n.customer_id WHERE n.stage <> o.stage"
        )
        part.differ = batches.rows(f"SELECT count(*) {apart}")[0][0]
        found = batches.rows(
            f"SELECT n.customer_id, f.spend_minor {apart} ORDER BY f.spend_minor DESC, n.customer_id LIMIT {NAMED}"
        )
        ids = [pk for pk, _spend in found]
        told = {side.name: self._evidence(ids, side, self.ends[-1]) for side in self.sides}
        now = self.seconds[-1]
        for pk, spend in found:
            line: dict[str, Any] = {"customer": pk, "spend": spend}
            for side in self.sides:
                values = told[side.name][pk]
                decision = rulebook.decide(side.rules, values, now)
                line[side.name] = {
                    "stage": values["stage"],
                    "rule": decision.rule.key,
                    "waits": decision.waits,
                    "evidence": values,
                }
            part.examples.append(line)


def _plain(snapshot: Snapshot, counts: Iterable[Times], now: int) -> dict[str, Any]:
    """A snapshot as evidence: no moment of the future, and what is counted as a number."""
    plain: dict[str, Any] = {}
    counted = {atom.key: atom for atom in counts}
    for name, value in snapshot.items():
        if name in counted:
            plain[name] = count_of(counted[name], snapshot, now)
        elif name in _MOMENTS and value is not None and value >= now:
            plain[name] = None
        else:
            plain[name] = value
    return plain


def nights(last: date, months: int) -> list[date]:
    """The business dates of the ``months`` up to ``last``."""
    first = min(clock.month(last, -months) + timedelta(days=last.day - 1), last)
    return list(clock.days(first, last))
