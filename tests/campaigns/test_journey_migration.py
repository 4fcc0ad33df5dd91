"""Campaigns of journeys that were made before they had columns for it keep their step, and give it back."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

BEFORE, AFTER = ("campaigns", "0008_editable_templates"), ("campaigns", "0009_campaign_of_a_journey")


def go(to: tuple[str, str]):
    executor = MigrationExecutor(connection)
    executor.migrate([to])
    return MigrationExecutor(connection).loader.project_state([to]).apps


@pytest.mark.django_db(transaction=True)
def test_it_reads_the_step_from_the_key_and_writes_it_back():
    leaves = MigrationExecutor(connection).loader.graph.leaf_nodes()
    try:
        old = go(BEFORE)
        template = old.get_model("campaigns", "Template").objects.create(key="hello", name="Hello")
        journey = old.get_model("campaigns", "Journey").objects.create(key="welcome", name="Welcome")
        key = f"journey-{journey.pk}-a-b-{template.pk}"
        made = old.get_model("campaigns", "Campaign").objects.create(
            key=key, name="Welcome: Hello", kind="journey", template=template
        )
        other = old.get_model("campaigns", "Campaign").objects.create(key="spring", name="Spring", template=template)
        new = go(AFTER).get_model("campaigns", "Campaign").objects
        assert new.values_list("journey_id", "step", "key").get(pk=made.pk) == (journey.pk, "a-b", None)
        assert new.values_list("journey_id", "step", "key").get(pk=other.pk) == (None, "", "spring")
        back = go(BEFORE).get_model("campaigns", "Campaign").objects
        assert [back.get(pk=one.pk).key for one in (made, other)] == [key, "spring"]
    finally:
        MigrationExecutor(connection).migrate(leaves)
