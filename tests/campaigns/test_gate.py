"""The gate as a table of examples, and on the clocks of the world."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns import gate, outbox
from campaigns.gate import HELD, SEND, SKIPPED, Candidate, Policy, verdict
from campaigns.models import Message, Suppression
from customers.models import Event, Order, Refund
from tests.campaigns.factories import NOON, CampaignFactory, agree, person, planned
from tests.factories import UserFactory

AGREED = datetime(2026, 1, 1, tzinfo=UTC)
FINE = Candidate(
    customer_id=1,
    address="a@example.com",
    address_key="a@example.com",
    time_zone="Europe/Stockholm",
    consent_id=7,
    consent_granted=True,
    consent_at=AGREED,
    stage="retain",
)
PLAIN = Policy()
WIN_BACK = Policy(is_reactivation=True)


@pytest.mark.parametrize(
    ("candidate", "policy", "outcome", "reason"),
    [
        (FINE, PLAIN, SEND, ""),
        (FINE, replace(PLAIN, is_live=False), SKIPPED, "inactive"),
        (replace(FINE, address_key=None), PLAIN, SKIPPED, "no_address"),
        (replace(FINE, address_key=None), replace(PLAIN, channel="sms"), SKIPPED, "no_phone"),
        (replace(FINE, consent_granted=False), PLAIN, SKIPPED, "no_consent"),
        (replace(FINE, consent_granted=False), replace(PLAIN, purpose="service"), SEND, ""),
        (replace(FINE, suppressions=(("bounced", NOON),)), PLAIN, SKIPPED, "bounced"),
        (replace(FINE, suppressions=(("bounced", NOON),)), replace(PLAIN, purpose="service"), SKIPPED, "bounced"),
        (replace(FINE, suppressions=(("unsubscribed", NOON),)), PLAIN, SKIPPED, "unsubscribed"),
        (replace(FINE, suppressions=(("unsubscribed", NOON),)), replace(PLAIN, purpose="service"), SEND, ""),
        # Agreed again after unsubscribing: they want it. But a dead mailbox stays dead.
        (replace(FINE, suppressions=(("unsubscribed", AGREED - timedelta(days=1)),)), PLAIN, SEND, ""),
        (replace(FINE, suppressions=(("bounced", AGREED - timedelta(days=1)),)), PLAIN, SKIPPED, "bounced"),
        (replace(FINE, stage="dormant"), WIN_BACK, SEND, ""),
        (replace(FINE, stage="nurture"), WIN_BACK, SKIPPED, "came_back"),
        ((replace(FINE, stage="dormant"), {"due_at": NOON - timedelta(hours=48)}), WIN_BACK, SEND, ""),
        ((replace(FINE, stage="dormant"), {"due_at": NOON - timedelta(hours=49)}), WIN_BACK, SKIPPED, "stale"),
        ((FINE, {"due_at": NOON - timedelta(hours=49)}), PLAIN, SEND, ""),
        (replace(FINE, open_cases=1), PLAIN, HELD, "open_case"),
        ((replace(FINE, open_cases=1), {"planned_at": NOON - timedelta(days=15)}), PLAIN, SKIPPED, "open_case"),
        (replace(FINE, open_cases=1), replace(PLAIN, purpose="survey"), SEND, ""),
        (replace(FINE, nps_score=6, answered_at=NOON - timedelta(days=13)), PLAIN, HELD, "recent_detractor"),
        (replace(FINE, nps_score=6, answered_at=NOON - timedelta(days=14)), PLAIN, SEND, ""),
        (replace(FINE, nps_score=7, answered_at=NOON), PLAIN, SEND, ""),
        (replace(FINE, time_zone="America/New_York"), PLAIN, HELD, "quiet_hours"),
        (replace(FINE, time_zone="America/New_York"), replace(PLAIN, purpose="service"), SEND, ""),
        (replace(FINE, slots=((NOON.date(), NOON),)), PLAIN, SKIPPED, "capped"),
        (replace(FINE, slots=((NOON.date(), NOON),)), replace(PLAIN, purpose="survey"), SEND, ""),
        (replace(FINE, slots=((NOON.date() - timedelta(days=1), NOON - timedelta(days=1)),)), PLAIN, SEND, ""),
        (
            replace(FINE, slots=tuple((NOON.date() - timedelta(days=n), NOON - timedelta(days=n)) for n in (1, 2, 6))),
            PLAIN,
            SKIPPED,
            "capped",
        ),
        (
            replace(FINE, slots=tuple((NOON.date() - timedelta(days=n), NOON - timedelta(days=n)) for n in (1, 2, 7))),
            PLAIN,
            SEND,
            "",
        ),
    ],
)
def test_it_gives_each_candidate_a_verdict_with_a_reason(candidate, policy, outcome, reason):
    candidate, times = candidate if isinstance(candidate, tuple) else (candidate, {})
    answer = verdict(candidate, policy, NOON, **{"planned_at": NOON, "due_at": NOON, **times})
    assert (answer.outcome, answer.reason) == (outcome, reason)
    assert answer.evidence["consent"] == 7


def test_it_says_until_when_a_message_is_held():
    detractor = replace(FINE, nps_score=3, answered_at=NOON - timedelta(days=10))
    assert verdict(detractor, PLAIN, NOON).at == NOON + timedelta(days=4)
    new_york = replace(FINE, time_zone="America/New_York")
    assert verdict(new_york, PLAIN, NOON).at == datetime(2026, 11, 20, 13, 0, tzinfo=UTC)


def test_it_counts_the_day_where_they_live():
    """At noon in Stockholm it is already tomorrow's small hours in Auckland."""
    slots = ((datetime(2026, 11, 20).date(), NOON - timedelta(hours=5)),)
    auckland = replace(FINE, time_zone="Pacific/Auckland", slots=slots)
    loose = replace(PLAIN, quiet_from=0, quiet_until=0)
    assert verdict(auckland, loose, NOON).outcome == SEND  # 21 November there
    assert verdict(replace(auckland, time_zone="Europe/Stockholm"), loose, NOON).reason == "capped"


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd"])
def test_it_takes_the_shops_zone_for_one_nobody_knows(name):
    late = datetime(2026, 11, 20, 20, 30, tzinfo=UTC)  # 21:30 in the shop's Stockholm
    answer = verdict(replace(FINE, time_zone=name), PLAIN, late)
    assert (answer.reason, answer.at) == ("quiet_hours", datetime(2026, 11, 21, 7, 0, tzinfo=UTC))


ZONES = [
    "Europe/Stockholm", "Europe/Oslo", "Europe/Warsaw", "Europe/Prague", "Europe/London", "Europe/Lisbon",
    "Europe/Athens", "Europe/Moscow", "America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles",
    "America/St_Johns", "America/Santiago", "America/Sao_Paulo", "Africa/Cairo", "Africa/Casablanca", "Asia/Kolkata",
    "Asia/Kathmandu", "Asia/Tokyo", "Australia/Lord_Howe", "Australia/Adelaide", "Pacific/Auckland", "Pacific/Chatham",
]  # fmt: skip


@pytest.mark.parametrize("name", ZONES)
def test_it_is_never_inside_the_quiet_hours_on_any_day_of_any_clock_change(name):
    """Every quarter of an hour of a year: the end of the quiet hours is outside them, near, and stays put."""
    zone = ZoneInfo(name)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    while at < datetime(2027, 1, 1, tzinfo=UTC):
        end = gate.end_of_quiet(at, zone, 21, 8)
        assert end >= at
        assert end - at <= timedelta(hours=12)  # 11 hours, and one more when the clock goes back
        assert not gate.is_quiet(end, zone, 21, 8)
        assert gate.end_of_quiet(end, zone, 21, 8) == end
        if end != at:
            assert end.astimezone(zone).strftime("%H:%M") == "08:00"
        at += timedelta(minutes=45)


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("Europe/Stockholm", "2026-03-29T01:30:00+00:00"),  # 02:30 does not exist
        ("Europe/Stockholm", "2026-10-25T00:30:00+00:00"),  # 02:30 for the first time
        ("Europe/Stockholm", "2026-10-25T01:30:00+00:00"),  # 02:30 for the second time
        ("America/New_York", "2026-11-01T05:30:00+00:00"),
        ("America/New_York", "2026-11-01T06:30:00+00:00"),
        ("Australia/Lord_Howe", "2026-04-04T15:15:00+00:00"),  # half an hour comes twice
    ],
)
def test_it_holds_one_night_once_when_the_clock_changes(name, at):
    moment = datetime.fromisoformat(at)
    answer = verdict(replace(FINE, time_zone=name), PLAIN, moment)
    assert answer.outcome == HELD
    assert answer.at.astimezone(ZoneInfo(name)).strftime("%H:%M") == "08:00"
    again = verdict(replace(FINE, time_zone=name), PLAIN, answer.at, due_at=answer.at)
    assert again.outcome == SEND


def test_it_ends_quiet_hours_after_the_gap_when_their_last_hour_is_skipped():
    """An end of 02:00 on the night the clock goes from 02:00 to 03:00."""
    end = gate.end_of_quiet(datetime(2026, 3, 28, 22, 0, tzinfo=UTC), ZoneInfo("Europe/Stockholm"), 21, 2)
    assert end == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


@settings(max_examples=300, deadline=None)
@given(
    start=st.integers(0, 23),
    until=st.integers(0, 23),
    minutes=st.integers(0, 60 * 24 * 365),
    name=st.sampled_from(ZONES),
)
def test_it_ends_every_kind_of_quiet_hours(start, until, minutes, name):
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    end = gate.end_of_quiet(moment, ZoneInfo(name), start, until)
    assert moment <= end <= moment + timedelta(hours=25)
    assert not gate.is_quiet(end, ZoneInfo(name), start, until)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("channel", "missing", "none"), [("email", {"email": ""}, "no_address"), ("sms", {"phone": ""}, "no_phone")]
)
def test_it_says_the_same_in_sql_when_planning_as_in_python_when_sending(channel, missing, none):
    """What no hour changes is judged set-based when planned; both judges must agree, for every purpose and channel. What
    was said and stopped on the other channel counts on neither."""
    other = "email" if channel == "sms" else "sms"
    before, after = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    everybody = []
    for agrees in (None, True, False, "again"):
        for stops in ((), ("bounced",), ("unsubscribed",), ("unsubscribed", "manual"), ("complained",)):
            for has_one in (True, False):
                phone = f"+4670{len(everybody):07d}"
                customer = person(agrees=None, **{"phone": phone, **({} if has_one else missing)})
                agree(customer, is_granted=not agrees, at=after, channel=other)
                if agrees is not None:
                    agree(customer, is_granted=bool(agrees), at=before, channel=channel)
                    agree(customer, is_granted=bool(agrees), at=before, purpose="survey", channel=channel)
                if agrees == "again":
                    agree(customer, at=after, channel=channel)
                keys = {"email": customer.email_key, "sms": customer.phone}
                for reason in stops:
                    at = before + timedelta(days=3)
                    if keys[channel]:
                        Suppression.add(channel=channel, address_key=keys[channel], reason=reason, at=at)
                if not stops and keys[other]:
                    Suppression.add(channel=other, address_key=keys[other], reason="bounced", at=before)
                everybody.append(customer)
    for purpose in ("marketing", "survey", "service"):
        campaign = CampaignFactory(purpose=purpose, channel=channel, quiet_from=0, quiet_until=0)
        run = planned(everybody, campaign)
        sql = dict(Message.objects.filter(run=run).values_list("customer_id", "reason"))
        policy = Policy.of(campaign)
        python = {
            pk: str(verdict(one, policy, NOON).reason)
            for pk, one in gate.candidates([one.pk for one in everybody], policy, NOON + timedelta(days=3000)).items()
        }
        assert sql == python
        assert {none, "bounced", ""} <= set(sql.values())
        cited = dict(Message.objects.filter(run=run).values_list("customer_id", "consent__channel"))
        assert set(cited.values()) == ({None} if purpose == "service" else {None, channel})
        addresses = dict(Message.objects.filter(run=run).values_list("customer_id", "address"))
        field = "phone" if channel == "sms" else "email"
        assert addresses == {one.pk: getattr(one, field) for one in everybody}


@pytest.mark.parametrize(
    ("change", "reason", "until"),
    [
        ({"refund_since": NOON - timedelta(days=1)}, "pending_refund", NOON + timedelta(hours=6)),
        ({"delayed_since": NOON - timedelta(days=1)}, "late_delivery", NOON + timedelta(hours=6)),
        ({"last_order_at": NOON - timedelta(days=1)}, "just_bought", NOON + timedelta(days=1)),
        ({"last_order_at": NOON - timedelta(days=2)}, "", None),
    ],
)
def test_it_holds_promotion_back_while_service_is_owed(change, reason, until):
    policy = replace(PLAIN, calm_days=2)
    answer = verdict(replace(FINE, **change), policy, NOON)
    assert (answer.outcome, answer.reason, answer.at) == (HELD if reason else SEND, reason, until)
    for purpose in ("service", "survey"):
        assert verdict(replace(FINE, **change), replace(policy, purpose=purpose), NOON).outcome == SEND


def happened(customer, name, at):
    Event.objects.create(customer=customer, name=name, occurred_at=at, source="t", source_id=f"{name}-{at}")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("events", "refunded", "reason"),
    [
        ([("refund_requested", 3)], None, "pending_refund"),
        ([("refund_requested", 3), ("refund_declined", 2)], None, ""),
        ([("refund_requested", 3), ("refund_declined", 4)], None, "pending_refund"),
        ([("refund_requested", 3)], 1, ""),
        ([("refund_requested", 3)], 5, "pending_refund"),
        ([("refund_requested", 31)], None, ""),
        ([("delivery_delayed", 3)], None, "late_delivery"),
        ([("delivery_delayed", 3), ("delivered", 1)], None, ""),
        ([("delivered", 3), ("delivery_delayed", 1)], None, "late_delivery"),
    ],
)
def test_it_lifts_what_it_holds_when_the_shop_has_put_it_right(events, refunded, reason):
    customer = person()
    for name, days in events:
        happened(customer, name, NOON - timedelta(days=days))
    if refunded is not None:
        order = Order.objects.create(
            customer=customer, source="t", source_id="1", placed_at=NOON - timedelta(days=20), currency="USD",
            amount_minor=100, base_minor=100,
        )  # fmt: skip
        Refund.objects.create(
            order=order, source="t", source_id="1", occurred_at=NOON - timedelta(days=refunded), amount_minor=100
        )
    candidate = gate.candidates([customer.pk], PLAIN, NOON)[customer.pk]
    assert verdict(candidate, PLAIN, NOON).reason == reason


@pytest.mark.django_db
def test_it_sends_by_itself_once_the_calm_after_a_purchase_is_over():
    with time_machine.travel(NOON, tick=False) as clock:
        run = planned([person(facts={"last_order_at": NOON - timedelta(days=1)})], CampaignFactory(calm_days=2))
        assert outbox.send_due() == {"held": 1}
        message = Message.objects.get(run=run)
        assert (message.reason, message.due_at) == ("just_bought", NOON + timedelta(days=1))
        clock.move_to(NOON + timedelta(days=1))
        assert outbox.send_due() == {"sent": 1}


@pytest.mark.django_db
def test_it_lists_every_verdict_on_a_page_and_an_endpoint(client):
    with time_machine.travel(NOON, tick=False):
        campaign = CampaignFactory()
        one = person(facts={"open_cases": 1, "last_order_at": NOON}, agrees=False)
        client.force_login(UserFactory(role="marketer"))
        page = client.get(reverse("campaigns:gate", args=[campaign.pk]), {"customer": one.pk}).content.decode()
        assert "Would be skipped" in page
        assert "has not agreed to this" in page
        assert "Has a complaint that is being handled" in page
        answer = client.get(f"/api/v1/campaigns/{campaign.pk}/gate/", {"customer": one.pk}).json()
        assert (answer["verdict"]["outcome"], answer["verdict"]["reason"]) == ("skipped", "no_consent")
        says = {row["check"]: row["verdict"] and row["verdict"]["outcome"] for row in answer["asked"]}
        assert says == {
            "inactive": None, "no_address": None, "unsubscribed": None, "no_consent": "skipped", "open_case": "held_until",
            "recent_detractor": None, "pending_refund": None, "late_delivery": None, "just_bought": "held_until",
            "quiet_hours": None, "capped": None,
        }  # fmt: skip
        assert client.get(f"/api/v1/campaigns/{campaign.pk}/gate/").json()["code"] == "no_customer"
