"""A night taken back: the table as it was, a history without gaps, messages called off, and what cannot be undone named."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.urls import reverse

from campaigns.models import Campaign, Message
from customers.models import CustomerFacts
from lifecycle_crm import night, undo, verify
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import Conflict, NotFound
from stages import engine, presets, rulesets
from stages.models import Night, StageTransition
from tests.campaigns.factories import CampaignFactory, VariantFactory
from tests.factories import UserFactory
from tests.roof.test_night import shop

pytestmark = pytest.mark.django_db

EVERYBODY_QUIET = [
    {"key": "quiet_now", "name": "Quiet now", "to": "dormant", "when": {"fact": "orders", "op": "gte", "value": 1}},
    {"key": "is_known", "name": "Is known", "to": "reach", "when": {"all": []}},
]


def stood() -> list[tuple[int, str, int]]:
    return batches.rows("SELECT customer_id, stage, stage_since FROM customers_customerfacts ORDER BY customer_id")


def sound() -> list[str]:
    return [line for _name, lines in verify.problems() for line in lines]


def bad_night(*, mode: str = "move") -> tuple[Night, list[tuple[int, str, int]]]:
    """A shop of forty with a good night, then a night by rules that send every buyer to dormant; how they stood between."""
    with time_machine.travel(clock.now() - timedelta(days=1), tick=False):
        shop(40, days=60)
        night.run(clock.last_complete_day())
    before = stood()
    made = rulesets.draft(based_on=None, rules=EVERYBODY_QUIET, actor=None, name="Bad")
    rulesets.publish(rule_set=made, actor=None, mode=mode)
    CustomerFacts.objects.update(next_review_at=clock.day_end(clock.last_complete_day()) - timedelta(seconds=5))
    return night.run(clock.last_complete_day()), before


def test_it_puts_everybody_back_and_keeps_the_history_whole() -> None:
    bad, before = bad_night()
    moved = StageTransition.objects.filter(night=bad).count()
    assert moved > 10
    assert stood() != before
    actor = UserFactory(role="marketer")
    done = undo.undo(day=bad.business_date, actor=actor)
    assert stood() == before
    assert done.undo == {"restored": moved, "moved_since": 0, "cancelled": 0, "gone_out": 0}
    assert (done.state, done.undone_by) == ("done", actor)
    back = StageTransition.objects.filter(kind="undo")
    assert back.count() == moved
    assert all(
        row.undoes.night == bad and row.from_stage == row.undoes.to_stage for row in back.select_related("undoes")
    )
    assert sound() == []


def test_the_same_night_moves_nobody_again_and_is_undone_once() -> None:
    bad, before = bad_night()
    undo.undo(day=bad.business_date, actor=None)
    assert night.run(bad.business_date).pk == bad.pk
    assert night.tick() == []
    assert stood() == before
    rows = StageTransition.objects.count()
    with pytest.raises(Conflict, match="is undone already"):
        undo.undo(day=bad.business_date, actor=None)
    assert StageTransition.objects.count() == rows


def test_the_next_night_decides_again_by_the_rules_in_force_then() -> None:
    bad, before = bad_night()
    undo.undo(day=bad.business_date, actor=None)
    rulesets.publish(
        rule_set=rulesets.draft(based_on=None, rules=presets.default_rules(60), actor=None, name="Good"), actor=None
    )
    with time_machine.travel(clock.now() + timedelta(days=1), tick=False):
        after = night.run(clock.last_complete_day())
        assert StageTransition.objects.filter(night=after, to_stage="dormant").count() < len(before)
        # And a night that was undone leaves the stays right for a second undo.
        third = undo.undo(day=after.business_date, actor=None)
        assert third.undo["restored"] == StageTransition.objects.filter(night=after).count()
        assert stood() == before
        assert sound() == []


def test_it_undoes_a_first_night_to_no_stage_at_all() -> None:
    shop(10, days=30)
    first = night.run(clock.last_complete_day())
    undo.undo(day=first.business_date, actor=None)
    assert [(stage, since) for _pk, stage, since in stood()] == [("", None)] * 10
    assert CustomerFacts.objects.filter(is_quiet=True).count() == 10
    assert sound() == []


def test_who_was_moved_since_stays_and_is_counted() -> None:
    bad, _before = bad_night()
    someone = StageTransition.objects.filter(night=bad).first().customer
    engine.move_by_hand(customer=someone, to="advocate", reason="A friend", actor=UserFactory(role="owner"))
    done = undo.undo(day=bad.business_date, actor=None)
    assert done.undo["moved_since"] == 1
    assert CustomerFacts.objects.get(pk=someone.pk).stage == "advocate"
    assert sound() == []


def test_it_calls_off_what_waits_and_names_what_has_left() -> None:
    template = VariantFactory(language="en").template
    campaign = CampaignFactory(
        kind=Campaign.Kind.REACTIVATION,
        state=Campaign.State.ACTIVE,
        template=template,
        holdout_percent=0,
        purpose="service",
    )
    bad, _before = bad_night()
    waiting = Message.objects.filter(run__campaign=campaign, state="queued")
    assert waiting.count() > 3
    left = waiting.first()
    Message.objects.filter(pk=left.pk).update(state="sent", sent_at=clock.now())
    out = io.StringIO()
    call_command("night", undo=True, date=bad.business_date, stdout=out)
    assert f"cannot be called back: 1 messages of {campaign.name}" in out.getvalue()
    assert waiting.count() == 0
    bad.refresh_from_db()
    assert bad.undo["gone_out"] == 1
    assert bad.undo["cancelled"] == Message.objects.filter(run__campaign=campaign, state="cancelled").count() > 2


def test_it_refuses_after_a_day_and_after_a_later_night() -> None:
    bad, _before = bad_night()
    table = stood()
    with time_machine.travel(clock.now() + timedelta(hours=25), tick=False):
        with pytest.raises(Conflict, match="more than 24 hours ago"):
            undo.undo(day=bad.business_date, actor=None)
        later = night.run(clock.last_complete_day())
    Night.objects.filter(pk=bad.pk).update(finished_at=clock.now())
    with pytest.raises(Conflict, match=f"The night of {later.business_date} was decided after it"):
        undo.undo(day=bad.business_date, actor=None)
    with pytest.raises(NotFound):
        undo.undo(day=bad.business_date - timedelta(days=900), actor=None)
    with pytest.raises(CommandError):
        call_command("night", undo=True, date=bad.business_date)
    assert len(stood()) == len(table)
    assert StageTransition.objects.filter(kind="undo").count() == 0


def test_a_marketer_undoes_it_on_its_page_and_a_viewer_does_not(client) -> None:
    bad, before = bad_night()
    url = reverse("night-undo", args=[bad.business_date.isoformat()])
    client.force_login(UserFactory(role="viewer"))
    assert client.post(url).status_code == 403
    assert stood() != before
    client.force_login(UserFactory(role="marketer"))
    assert "Undo this night" in client.get(url).content.decode()
    answer = client.post(url, follow=True)
    assert stood() == before
    assert "customers are back" in answer.content.decode()
    assert "is undone already" in client.get(url).content.decode()
    assert client.post(url).status_code == 409


def test_a_preview_tells_what_the_night_then_does(client) -> None:
    shop(20, days=50)
    day = clock.last_complete_day()
    client.force_login(UserFactory(role="marketer"))
    url = reverse("night-preview", args=[day.isoformat()])
    assert "Work it out" in client.get(url).content.decode()
    page = client.post(url)
    assert page.context["moves"] == 20
    assert not Night.objects.exists()
    night.run(day)
    assert StageTransition.objects.count() == 20
    assert "This night is done" in client.get(url).content.decode()
    assert client.get(reverse("night-preview", args=[clock.today().isoformat()])).status_code == 409
