"""A large shop from a small one: the same people again and again under new numbers, set-based.

Loading a million people one by one would take longer than everything that is measured. Each copy keeps the dates, sums and
facts of its original, so distributions stay those of the real histories.
"""

from __future__ import annotations

from django.db import connection, models
from django.db.models import Max

from customers.models import Consent, Customer, CustomerFacts, Event, ExternalId, Order, RfmChange
from feedback.models import Answer, Response
from lifecycle_crm.dashboard.models import FlowDay, StageDay, TradeDay
from lifecycle_crm.lib import batches
from stages.models import StageTransition

Strides = dict[type[models.Model], int]

TABLES: list[type[models.Model]] = [
    Customer,
    ExternalId,
    Order,
    Event,
    Consent,
    Response,
    Answer,
    CustomerFacts,
    RfmChange,
    StageTransition,
]
"""What is copied, parents first. Points are not (the ledger is measured by itself), nor lines and messages, which a night
does not read."""

DISTINCT = {"email_key", "value", "source_id", "key"}
"""Columns that must differ: they get the number of the copy at the end."""

AT_ONCE = 10


def thicken(*, orders: int, events: int) -> None:
    """So many more orders and events for each one there is, each eleven days before the last; they earn nothing."""
    _copy(Order, orders, {}, back="placed_at")
    _copy(Event, events, {}, back="occurred_at")


def times(factor: int) -> None:
    """Make the shop ``factor`` times as large. What was rolled up is forgotten; the next night rolls it up again."""
    strides = {model: _top(model) for model in TABLES}
    postgresql = connection.vendor == "postgresql"
    if postgresql:
        # The originals refer to what exists, so their copies do; asking for each row would take longer than writing it.
        batches.execute("SET session_replication_role = replica")
    for model in TABLES:
        _copy(model, factor - 1, strides)
    for rolled in (StageDay, FlowDay, TradeDay):
        rolled._default_manager.all()._raw_delete("default")
    if not postgresql:
        return
    batches.execute("RESET session_replication_role")
    for model in TABLES:
        if isinstance(model._meta.pk, models.BigAutoField):
            batches.rows(f"SELECT setval(pg_get_serial_sequence('{model._meta.db_table}', 'id'), {_top(model)})")


def people(factor: int) -> None:
    """So many times the customers there are, without anything that is theirs."""
    stride = _top(Customer)
    _copy(Customer, factor - 1, {Customer: stride})
    if connection.vendor == "postgresql":
        batches.rows(f"SELECT setval(pg_get_serial_sequence('customers_customer', 'id'), {_top(Customer)})")


def _top(model: type[models.Model]) -> int:
    return int(model._default_manager.aggregate(top=Max("pk"))["top"] or 0)


def _copy(model: type[models.Model], count: int, strides: Strides, back: str = "") -> None:
    quoted = connection.ops.quote_name
    table, key = quoted(model._meta.db_table), quoted(model._meta.pk.column)
    # Without strides they are more rows of the same people, and the database numbers them.
    columns = [f for f in model._meta.concrete_fields if strides or not f.primary_key]
    chosen = ", ".join(quoted(f.column) for f in columns)
    values = ", ".join(_value(f, model, strides, back) for f in columns)
    top = _top(model)
    for first in range(1, count + 1, AT_ONCE):
        last = min(first + AT_ONCE - 1, count)
        batches.execute(
            f"WITH RECURSIVE n(k) AS (SELECT {first} UNION ALL SELECT k + 1 FROM n WHERE k < {last}) "
            f"INSERT INTO {table} ({chosen}) SELECT {values} FROM n CROSS JOIN {table} t "
            f"WHERE t.{key} <= {top} ORDER BY n.k, t.{key}"
        )


def _value(field: models.Field, model: type[models.Model], strides: Strides, back: str) -> str:
    column = f"t.{connection.ops.quote_name(field.column)}"
    stride = strides.get(model if field.primary_key and not field.is_relation else field.related_model)
    if stride is not None:
        return f"{column} + n.k * {stride}"
    if field.column in DISTINCT:
        return f"{column} || '~' || n.k || '{'' if strides else '+'}'"
    if field.column == "reacted_at":
        # Nobody reacts to a copy.
        return f"coalesce({column}, t.{'answered_at' if model is Response else 'received_at'})"
    if field.column == back:
        if connection.vendor == "postgresql":
            return f"{column} - n.k * interval '11 days'"
        return f"datetime({column}, (-11 * n.k) || ' days')"
    return column
