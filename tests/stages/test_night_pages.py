"""The page of a night: who was set aside, what waits for a person, what is missing, and how often it asks."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
import time_machine
from django.urls import reverse

from lifecycle_crm.lib import clock
from stages.models import Chunk, Night
from tests.dashboard.factories import noon, person, rules
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

TODAY = date(2026, 3, 11)


@pytest.fixture(autouse=True)
def _noon():
    with time_machine.travel(noon(TODAY), tick=False):
        yield


@pytest.fixture
def marketer(client):
    client.force_login(UserFactory(role="marketer"))
    return client


def a_night(day: date = TODAY - timedelta(days=1), **fields) -> Night:
    return Night.objects.create(
        **{
            "business_date": day, "as_of": clock.day_end(day), "rule_set": rules(), "state": "done",
            "finished_at": clock.now(), **fields,
        }
    )  # fmt: skip


def shown(client, night: Night) -> str:
    return client.get(reverse("stages:night", args=[night.business_date.isoformat()])).content.decode()


def test_it_names_who_was_set_aside_with_a_link(marketer) -> None:
    someone = person("reach")
    night = a_night()
    Chunk.objects.create(
        night=night,
        step="facts",
        position=2,
        low=someone.pk,
        high=someone.pk + 1,
        state="failed",
        error="cannot be read",
    )
    page = shown(marketer, night)
    assert "Who was set aside" in page
    assert f'<a href="{reverse("dashboard:customer", args=[someone.pk])}">#{someone.pk}</a>' in page
    assert "cannot be read" in page


def test_it_leads_to_what_the_guard_stopped_and_counts_what_came_too_late(marketer) -> None:
    night = a_night(counts={"waiting": 90, "stale": 3})
    page = shown(marketer, night)
    assert "The guard stopped messages of this night" in page
    assert f'href="{reverse("campaigns:outbox")}"' in page
    assert "3 customers went dormant, but the night ran more than 48 hours late" in page
    assert "The guard stopped" not in shown(marketer, a_night(TODAY - timedelta(days=2)))


@pytest.mark.parametrize(("age", "seconds"), [(5, 2), (120, 5), (3600, 15)])
def test_it_asks_seldomer_the_longer_it_takes(marketer, age, seconds) -> None:
    night = a_night(state="running", finished_at=None, started_at=clock.now() - timedelta(seconds=age))
    assert f'hx-trigger="every {seconds}s"' in shown(marketer, night)


def test_it_offers_to_go_on_with_a_stopped_night_and_to_undo_the_last_one_only(marketer, client) -> None:
    stopped = a_night(TODAY - timedelta(days=3), state="failed", error="scores: no disk")
    page = shown(marketer, stopped)
    assert "Try again" in page
    assert "Undo this night" not in page
    Night.objects.update(state="done")
    last = a_night()
    assert "Undo this night" in shown(marketer, last)
    assert "Undo this night" not in shown(marketer, stopped)
    client.force_login(UserFactory(role="viewer"))
    assert "Undo this night" not in shown(client, last)


def test_it_names_the_dates_that_wait_and_previews_the_oldest(marketer) -> None:
    a_night(TODAY - timedelta(days=4))
    page = marketer.get(reverse("stages:night-list")).content.decode()
    assert "3 nights are missing" in page
    assert "8 Mar 2026, 9 Mar 2026, 10 Mar 2026" in page
    assert reverse("night-preview", args=["2026-03-08"]) in page
