"""Who stands where, decided for everybody in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from django.db import connection

from customers import facts
from customers.facts import bool_literal
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter, seconds
from loyalty import programme as programmes
from loyalty.models import Ladder, Programme, Tier
from loyalty.tiers.counting import MONTH_SECONDS, counted, window_start
from loyalty.tiers.ladder import ladders

LOOKS = "tier_looks"


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
