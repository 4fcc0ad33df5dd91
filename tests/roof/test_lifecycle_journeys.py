"""Journeys as code: carried to the byte, their steps as a draft, refusals that name the line."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.db import transaction

from campaigns.journeys import publishing, starts
from campaigns.models import Journey, WebhookTarget
from customers import segments
from lifecycle_crm import lifecycle_code
from loyalty import vouchers
from loyalty.models import VoucherSeries
from tests.campaigns.factories import VariantFactory

pytestmark = pytest.mark.django_db


def read(text: str) -> lifecycle_code.Document:
    return lifecycle_code.read(io.StringIO(text), "lifecycle.yaml")


STEPS = [
    {"id": "s1", "do": "wait", "days": 2, "window": {"from": 9, "until": 18, "weekdays": [0, 4]}},
    {"id": "s2", "do": "message", "template": "hello"},
    {"id": "s3", "do": "split", "branches": [{"when": {"fact": "orders", "op": "gte", "value": 2}, "steps": [
        {"id": "s4", "do": "points", "points": 50, "reason": "Thanks"}]}], "else": [{"id": "s5", "do": "exit"}]},
    {"id": "s6", "do": "task", "kind": "call", "what": "Ask how it went", "days": 2, "role": "support"},
    {"id": "s7", "do": "task_done", "task": "s6", "at_most": {"days": 7}, "branches": [{"steps": []}], "else": []},
    {"id": "s8", "do": "webhook", "target": "warehouse", "fields": ["stage"]},
]  # fmt: skip


def journey(key: str = "welcome", **more: Any) -> Journey:
    WebhookTarget.objects.get_or_create(key="warehouse", name="Warehouse", url="https://warehouse.shop.example/")
    tree = {"trigger": {"on": "stage_entered", "stage": "nurture"}, "steps": STEPS}
    return publishing.create(**{"name": "Welcome", "key": key, "tree": tree, **more})


def steps(text: str, old: str, new: str) -> lifecycle_code.Document:
    """The file with something else in its journeys, and nothing but them."""
    journeys = text[text.index("journeys:\n") :]
    assert old in journeys
    return read("lifecycle: 1\n" + journeys.replace(old, new))


def test_it_carries_journeys_into_an_empty_shop_to_the_byte():
    with transaction.atomic():
        segments.create(name="VIP", key="vip", condition={"tag": "vip"})
        for start in starts.STARTS:
            tree = {"trigger": start.trigger, "steps": start.steps}
            publishing.create(name=str(start.name), key=start.key, tree=tree, **start.settings)
        VariantFactory(template__key="hello")
        live = journey("hello", exits=[{"segment": "vip"}], again="after", again_days=30, goal={"event": "visit"})
        publishing.publish(journey=live)
        publishing.save(journey=live, tree={})  # somebody begins anew; the shop still does what was published
        publishing.end(journey=journey("gone"))
        first = lifecycle_code.export()
        transaction.set_rollback(True)
    told = lifecycle_code.load(document=read(first), publish=True).told
    keys = sorted([*(start.key for start in starts.STARTS), "hello"])
    new = "new. It lets nobody in until somebody publishes it."
    assert [line for line in told if "Journey" in line] == [f"Journey {key}: {new}" for key in keys]
    assert set(Journey.objects.values_list("state", "version")) == {("draft", 0)}
    assert lifecycle_code.export() == first
    assert "key: gone" not in first
    assert (
        "      - id: s1\n        do: wait\n        days: 2\n        window:\n          from: 9\n          until: 18\n"
    ) in first
    assert lifecycle_code.diff(read(first)) == ""
    assert lifecycle_code.load(document=read(first)).told == ["The shop is as the file says. Nothing to do."]


def test_it_changes_the_terms_of_a_journey_at_once_and_its_steps_as_a_draft():
    VariantFactory(template__key="hello")
    live = journey()
    publishing.publish(journey=live)
    text = lifecycle_code.export()
    changed = steps(text, "days: 2\n", "days: 5\n")
    changed.data["journeys"][0]["goal_days"] = 60
    assert "-        days: 2\n+        days: 5\n" in lifecycle_code.diff(changed)
    terms = "Journey welcome: goal_days changed."
    draft = "Journey welcome: its steps are a draft. They change nothing until somebody publishes them."
    assert lifecycle_code.load(document=changed, dry_run=True).told == [terms, draft]
    live.refresh_from_db()
    assert (live.goal_days, live.draft["steps"][0]["days"]) == (30, 2)
    assert lifecycle_code.load(document=changed).told == [terms, draft]
    live.refresh_from_db()
    assert (live.goal_days, live.version, live.draft["steps"][0]["days"]) == (60, 1, 5)
    # What is in force is still the old one, and a second import finds its work done.
    assert "days: 5" in lifecycle_code.diff(changed)
    again = "Journey welcome: its draft has these steps already. Publish it in Journeys."
    assert lifecycle_code.load(document=changed).told == [again]
    with pytest.raises(lifecycle_code.BadFile, match="line 3: somebody is changing the steps of welcome"):
        lifecycle_code.load(document=steps(text, "days: 2\n", "days: 6\n"))
    live.refresh_from_db()
    assert live.draft["steps"][0]["days"] == 5
    publishing.publish(journey=live)
    assert lifecycle_code.diff(changed) == ""
    publishing.end(journey=live)
    with pytest.raises(lifecycle_code.BadFile, match="line 3: the journey welcome has ended here"):
        lifecycle_code.load(document=changed)


def ten(name: str) -> VoucherSeries:
    return vouchers.create(name=name, worth="percent", percent=10)


def test_it_names_vouchers_by_their_series_and_finds_them_in_another_shop():
    gift = {"id": "s1", "do": "voucher"}
    with transaction.atomic():
        ten("Spring")
        series = ten("Welcome 10 %")
        split = {"id": "s2", "do": "share", "branches": [{"percent": 50, "steps": [gift | {"series": series.pk}]}]}
        journey(tree={"trigger": {"on": "order"}, "steps": [split, {"id": "s3", "do": "voucher", "series": 2**60}]})
        text = lifecycle_code.export()
        transaction.set_rollback(True)
    assert "do: voucher\n                series: Welcome 10 %\n" in text
    assert "      - id: s3\n        do: voucher\n" in text  # those vouchers are not there any more: to be chosen again
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "series:" in line)
    nobody = f"line {line}: no vouchers are called 'Welcome 10 %'. Make them in Loyalty first, or name others."
    with pytest.raises(lifecycle_code.BadFile, match=nobody):
        lifecycle_code.load(document=read(text))
    assert not Journey.objects.exists()
    other = ten("Welcome 10 %")
    number = text.replace("series: Welcome 10 %", f"series: {other.pk}")
    with pytest.raises(lifecycle_code.BadFile, match=f"no vouchers are called {other.pk}"):
        lifecycle_code.load(document=read(number))
    lifecycle_code.load(document=read(text), publish=True)
    assert Journey.objects.get().draft["steps"][0]["branches"][0]["steps"] == [gift | {"series": other.pk}]
    assert lifecycle_code.diff(read(text)) == ""
    ten("Welcome 10 %")
    with pytest.raises(lifecycle_code.BadFile, match="two vouchers are called 'Welcome 10 %'"):
        lifecycle_code.load(document=steps(text, "percent: 50", "percent: 40"))


JOURNEY = "lifecycle: 1\njourneys:\n  - key: hello\n    name: Hello\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lifecycle: 1\njourneys: 5\n", "line 2: journeys is a list"),
        ("lifecycle: 1\njourneys:\n  - key: hello\n", "line 3: a journey needs a name."),
        (JOURNEY + "    state: live\n", "line 5: does not know 'state'"),
        (JOURNEY + "    steps: wait\n", "line 5: steps is a list"),
        (JOURNEY + "    trigger: order\n", "line 5: trigger is keys and values, found 'order'."),
        (JOURNEY + "    holdout_percent: 95\n", "line 3: holdout_percent is a whole number from 0 to 90"),
        (JOURNEY + "    goal_days: many\n", "line 3: goal_days is a whole number from 1 to 365"),
        (JOURNEY + "    again: sometimes\n", "line 3: Choose never, after some days, or every time."),
        (JOURNEY + "    exits:\n      - segment: nobody\n", "there is no segment"),
        (JOURNEY + "    goal: {order: 7}\n", "line 3: The goal is"),
        (JOURNEY.replace("hello", "Hello!"), "line 3: The key 'Hello!' is not usable"),
        (JOURNEY + "  - key: hello\n    name: Two\n", "line 5: 'hello' is there twice"),
    ],
)
def test_it_names_the_line_of_a_wrong_journey_and_writes_nothing(text, sentence):
    before = lifecycle_code.export()
    with pytest.raises(lifecycle_code.BadFile) as refused:
        lifecycle_code.load(document=read(text))
    assert sentence in str(refused.value)
    assert lifecycle_code.export() == before
    assert not Journey.objects.exists()
