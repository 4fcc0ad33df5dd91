"""The picture that two runs are compared by holds everything a night writes: no table and no column is forgotten."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.apps import apps
from django.db import connection, models

from lifecycle_crm import night
from lifecycle_crm.lib import clock
from tests.chaos import pictures, plan, town

WRITES = re.compile(r'^\s*(?:WITH\b.*?\b)?(?:INSERT INTO|UPDATE|DELETE FROM)\s+"?(\w+)"?', re.IGNORECASE | re.DOTALL)


def pictured() -> set[type[models.Model]]:
    return {model for model, _columns in pictures.TABLES.values()}


def excused() -> set[str]:
    """Apps and models, in small letters, that ``NOT_BY_A_NIGHT`` names."""
    return {name.lower() for names in pictures.NOT_BY_A_NIGHT for name in names.split()}


def is_excused(model: type[models.Model]) -> bool:
    return bool({model._meta.app_label, model._meta.label_lower} & excused())


def test_every_table_is_in_the_picture_or_has_a_reason_not_to_be() -> None:
    """The picture: every table of the model registry."""
    for model in apps.get_models(include_auto_created=True):
        places = [model in pictured(), model in pictures.WORKINGS, is_excused(model)]
        assert places.count(True) == 1, f"{model._meta.label} is in {places.count(True)} of three lists."
    known = {m._meta.label_lower for m in apps.get_models()} | {m._meta.app_label for m in apps.get_models()}
    assert excused() <= known


def test_every_column_is_in_the_picture_or_has_a_reason_not_to_be() -> None:
    """The picture: every column of its tables."""
    left_out = {name for names in pictures.LEFT_OUT.values() for name in names.split()}
    missing = [
        f"{name}: {field.name}"
        for name, (model, columns) in pictures.TABLES.items()
        for field in model._meta.concrete_fields
        if field.name not in {column.split("__")[0] for column in columns.split()} | left_out
        and field.name not in pictures.SAID_ELSEWHERE.get(name, "").split()
    ]
    assert missing == []


@pytest.mark.django_db
def test_what_a_night_really_writes_is_in_the_picture(tell: Callable[..., None]) -> None:
    """The picture: every statement of an ordinary night and a full one."""
    written: set[str] = set()

    def watching(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if found := WRITES.match(sql):
            written.add(found[1].lower())
        return execute(sql, *rest)

    last = clock.last_complete_day()
    first = last - timedelta(days=20)
    town.furnish(since=clock.day_start(first))
    town.settle_in(8, since=clock.day_start(first))
    town.hear(town.busy(8, first=first, last=last, dice=plan.dice("picture")))
    for day in (last - timedelta(days=4), last):
        late = clock.day_end(day) + timedelta(hours=3)
        with time_machine.travel(late, tick=False), connection.execute_wrapper(watching):
            assert night.run(day, is_full=day == last).state == "done"
    by_table = {model._meta.db_table: model for model in apps.get_models(include_auto_created=True)}
    kept = {by_table[table] for table in written if table in by_table}
    tell(tables_written=len(kept), tables_in_the_picture=len(pictured()))
    assert len(kept) > 20
    assert {model._meta.label for model in kept if is_excused(model)} == set()
    # And nothing a night writes to goes by a name that the registry does not know, but its own working tables.
    working = {table for table in written if table not in by_table}
    assert not [table for table in working if table.split("_")[0] in {m._meta.app_label for m in apps.get_models()}]
