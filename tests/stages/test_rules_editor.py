"""Changing the rules: numbers in a form, checks, the brake, the second person, publishing three ways, versions in words."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import pytest
import time_machine
from django.db import IntegrityError, transaction
from django.urls import reverse

from customers.models import Customer, CustomerFacts
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from lifecycle_crm.lib.models import Note
from lifecycle_crm.lib.moments import seconds
from stages import checks, engine, presets, rules, rulesets, thresholds
from stages.models import Pin, RuleApproval, RuleSet, StageKey
from stages.rules import BadRules
from tests.dashboard.factories import move, noon, person
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

TODAY = date(2026, 3, 11)
LAST = {"key": "is_known", "name": "Is known", "to": "reach", "when": {"all": []}}


def rule(key: str, to: str, when: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"key": key, "name": key.capitalize().replace("_", " "), "to": to, "when": when, **more}


def spends(amount: int, op: str = "gte") -> dict[str, Any]:
    return {"fact": "spend_minor", "op": op, "value": amount}


RICH = [rule("rich", "advocate", spends(5000)), LAST]


@pytest.fixture(autouse=True)
def _noon():
    with time_machine.travel(noon(TODAY), tick=False):
        yield


@pytest.fixture
def marketer(client):
    client.force_login(UserFactory(role="marketer"))
    return client


def published(data: list[dict[str, Any]] | None = None) -> RuleSet:
    return RuleSet.objects.create(
        version=1, name="Rules", state="published", rules=data or [LAST], published_at=clock.now()
    )


def drafted(data: list[dict[str, Any]]) -> RuleSet:
    return rulesets.draft(based_on=None, rules=data, actor=None, name="Mine")


# --- Checks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "when",
    [
        {"all": [spends(500), spends(500, "lt")]},
        {"all": [spends(500), {"all": [{"fact": "orders", "op": "gte", "value": 1}, spends(499, "lte")]}]},
        {"all": [{"fact": "orders", "op": "eq", "value": 2}, {"fact": "orders", "op": "ne", "value": 2}]},
        {"all": [spends(500), {"not": spends(400)}]},
        {"all": [spends(500), {"not": spends(500)}]},
        {"all": [{"fact": "nps_score", "op": "is_not_set"}, {"fact": "nps_score", "op": "gte", "value": 0}]},
        {"all": [{"fact": "stage", "op": "eq", "value": "reach"}, {"fact": "stage", "op": "in", "value": ["retain"]}]},
        {"all": [{"fact": "may_email", "op": "eq", "value": True}, {"fact": "may_email", "op": "eq", "value": False}]},
        {
            "all": [
                {"fact": "last_order_at", "op": "days_since_gte", "value": 90},
                {"fact": "last_order_at", "op": "days_since_lt", "value": 90},
            ]
        },
        {"all": [{"did": "visit", "op": "gte", "times": 3}, {"did": "visit", "op": "lt", "times": 3}]},
        {"any": [{"all": [spends(2), spends(1, "lt")]}, {"any": []}]},
        {"not": {"all": []}},
    ],
)
def test_it_names_a_rule_that_can_never_be_true(when) -> None:
    data = [rule("odd_one", "retain", when), LAST]
    with pytest.raises(BadRules, match="“Odd one” can never be true"):
        drafted(data)
    assert not RuleSet.objects.exists()


@pytest.mark.parametrize(
    "when",
    [
        {"all": [spends(500), spends(500, "lte")]},
        {"all": [{"not": spends(500)}, {"not": spends(500, "lt")}]},
        {"all": [spends(500), {"not": spends(501)}]},
        {"any": [{"all": [spends(2), spends(1, "lt")]}, spends(3)]},
        {
            "all": [
                {"fact": "last_order_at", "op": "days_since_gte", "value": {"gaps": 2, "at_least": 30, "at_most": 120}},
                {"fact": "last_order_at", "op": "days_since_lt", "value": 90},
            ]
        },
        {"not": {"any": []}},
    ],
)
def test_it_leaves_alone_what_may_be_true(when) -> None:
    assert list(checks.dead(rules.parse([rule("fine", "retain", when), LAST]))) == []


def test_every_kind_of_shop_passes_every_check() -> None:
    for kind in presets.PRESETS:
        for rhythm in (3, 14, 60, 200, 900):
            parsed = rules.parse(presets.default_rules(rhythm, kind))
            assert list(checks.dead(parsed)) == []
            assert list(checks.loops(parsed, clock.whole_now())) == []


def test_it_names_a_rule_in_the_shadow_of_another() -> None:
    shadowed = [rule("buyers", "retain", {"fact": "orders", "op": "gte", "value": 1})]
    below = rule("rich", "advocate", {"all": [{"fact": "orders", "op": "gte", "value": 1}, spends(9)]})
    with pytest.raises(BadRules, match="“Rich” never decides: “Buyers” above it"):
        drafted([*shadowed, below, LAST])
    # Asked only of some, it leaves the others to the rule below.
    assert drafted([{**shadowed[0], "from": ["reach"]}, below, LAST]).state == "draft"


def test_it_names_two_rules_that_toss_people_about_and_publishes_neither() -> None:
    published()
    ping = rule("ping", "retain", spends(100), **{"from": ["nurture"]})
    pong = rule("pong", "nurture", spends(200), **{"from": ["retain"]})
    made = drafted([ping, pong, LAST])
    with pytest.raises(
        BadRules, match="“Ping” moves people from Nurture to Retain and “Pong” moves the same people back"
    ):
        rulesets.publish(rule_set=made, actor=None)
    made.refresh_from_db()
    assert made.state == "draft"
    calm = drafted([ping, {**pong, "stay_days": 30}, LAST])
    assert rulesets.publish(rule_set=calm, actor=None).state == "published"


def test_a_loop_stands_on_the_page_of_the_draft(marketer) -> None:
    published()
    made = drafted(
        [
            rule("ping", "retain", spends(100), **{"from": ["nurture"]}),
            rule("pong", "nurture", spends(100), **{"from": ["retain"]}),
            LAST,
        ]
    )
    page = marketer.get(reverse("stages:rules", args=[made.version])).content.decode()
    assert "Two rules work against each other" in page


# --- Numbers in a form ------------------------------------------------------------------------------------------------


def fields_of(page) -> dict[str, Any]:
    edit = page.context["edit"]
    return {name: edit[name].value() for name in edit.fields}


def test_it_changes_a_threshold_through_the_form(marketer) -> None:
    published(presets.default_rules(60))
    made = rulesets.draft(based_on=RuleSet.objects.get(), rules=None, actor=None)
    url = reverse("stages:rules", args=[made.version])
    data = fields_of(marketer.get(url))
    assert data["n-0-when-all-0-value-at_least"] == 90
    data |= {"n-0-when-all-0-value-at_least": 100, "n-0-when-all-0-value-gaps": "3.5", "n-4-stay_days": 7}
    answer = marketer.post(reverse("stages:rules-numbers", args=[made.version]), data)
    assert answer.status_code == 302
    made.refresh_from_db()
    changed = presets.default_rules(60)
    changed[0]["when"]["all"][0]["value"] |= {"at_least": 100, "gaps": 3.5}
    changed[4]["stay_days"] = 7
    assert made.rules == changed


def test_it_shows_money_in_whole_units_and_keeps_it_in_small_ones(marketer) -> None:
    published()
    made = drafted(RICH)
    data = fields_of(marketer.get(reverse("stages:rules", args=[made.version])))
    assert str(data["n-0-when-value"]) == "50.00"
    marketer.post(reverse("stages:rules-numbers", args=[made.version]), data | {"n-0-when-value": "75.50"})
    made.refresh_from_db()
    assert made.rules[0]["when"]["value"] == 7550


def test_it_moves_adds_and_removes_rules_and_keeps_what_was_typed(marketer) -> None:
    published(presets.default_rules(60))
    made = rulesets.draft(based_on=RuleSet.objects.get(), rules=None, actor=None)
    url, post = reverse("stages:rules", args=[made.version]), reverse("stages:rules-numbers", args=[made.version])

    def act(do: str, **more: Any) -> list[str]:
        answer = marketer.post(post, fields_of(marketer.get(url)) | more | {"do": do})
        assert answer.status_code == 302, answer.context["edit"].errors
        made.refresh_from_db()
        return [one["key"] for one in made.rules]

    keys = [one["key"] for one in presets.default_rules(60)]
    assert act("down:goes_quiet", **{"n-1-when-all-1-value": 200})[:2] == ["interest_fades", "goes_quiet"]
    assert made.rules[0]["when"]["all"][1]["value"] == 200
    assert act("up:goes_quiet") == keys
    assert act("remove:speaks_for_us") == [key for key in keys if key != "speaks_for_us"]
    assert "Speaks for us" in [one["name"] for one in marketer.get(url).context["to_add"]]
    assert act("add:seasons:speaks_for_us") == keys
    refused = marketer.post(post, fields_of(marketer.get(url)) | {"do": "remove:is_known"})
    assert refused.status_code == 422
    assert "catches everybody" in refused.content.decode()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("n-0-when-all-0-value-at_least", "300", "This is below “at least”. Make it 300 or more."),
        ("n-0-when-all-0-value-gaps", "101", "less than or equal to 100"),
        ("n-1-when-all-1-value", "-1", "greater than or equal to 0"),
        ("n-1-when-all-1-value", "soon", "Enter a whole number"),
        ("name", "", "This field is required"),
    ],
)
def test_it_says_what_is_wrong_with_a_number_and_saves_nothing(marketer, field, value, sentence) -> None:
    published(presets.default_rules(60))
    made = rulesets.draft(based_on=RuleSet.objects.get(), rules=None, actor=None)
    data = fields_of(marketer.get(reverse("stages:rules", args=[made.version])))
    answer = marketer.post(reverse("stages:rules-numbers", args=[made.version]), data | {field: value})
    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    made.refresh_from_db()
    assert made.rules == presets.default_rules(60)


def test_a_place_that_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidInput, match="There is no number at"):
        thresholds.put(RICH, {"0.to": 3})


# --- Publishing -------------------------------------------------------------------------------------------------------


def test_the_brake_wants_the_number_or_a_second_person(marketer) -> None:
    published()
    person("reach", 9000)
    made = drafted(RICH)
    with pytest.raises(Conflict, match=r"1 customer would move\. Type that number"):
        rulesets.release(rule_set=made, actor=None, confirm="2")
    made.refresh_from_db()
    assert made.state == "draft"
    assert rulesets.release(rule_set=made, actor=None, confirm=1).state == "published"


def test_every_number_of_the_what_if_leads_to_its_people_with_both_reasons(marketer, monkeypatch) -> None:
    published()
    rich = [person("reach", 9000 + n) for n in range(3)]
    gone, poor = person("dormant", 6000), person("retain", 10)
    person("reach", 10)
    made = drafted(RICH)
    page = marketer.get(reverse("stages:rules", args=[made.version])).content.decode()
    url = reverse("stages:rules-movers", args=[made.version])
    assert f'href="{url}?from=reach&amp;to=advocate">3</a>' in page
    listed = marketer.get(url, {"from": "reach", "to": "advocate"})
    assert [line["mover"].customer for line in listed.context["sample"]] == rich[::-1]
    assert "3 customers at this moment" in listed.content.decode()
    assert "spend: $90.02 (at least $50.00)" in listed.content.decode()
    [only] = marketer.get(url, {"from": "dormant", "to": "advocate"}).context["sample"]
    assert only["mover"].customer == gone
    monkeypatch.setattr("stages.views.rules.MOVERS", 3)
    everybody = [marketer.get(url, {"page": n}).context["sample"] for n in (1, 2)]
    assert [line["mover"].customer for sample in everybody for line in sample] == [*rich[::-1], gone, poor]
    assert marketer.get(url, {"from": "retain", "to": "dormant"}).context["sample"] == []
    assert marketer.get(url, {"from": "heaven", "to": "dormant"}).status_code == 422


def test_below_the_brake_nothing_is_typed() -> None:
    published()
    for _n in range(25):
        person("reach", 0)
    person("reach", 9000)
    assert rulesets.release(rule_set=drafted(RICH), actor=None).state == "published"


def test_a_second_person_publishes_and_the_first_cannot(client) -> None:
    published()
    person("reach", 9000)
    made = drafted(RICH)
    anna, ben = UserFactory(role="marketer"), UserFactory(role="admin")
    client.force_login(anna)
    publish = reverse("stages:rules-publish", args=[made.version])
    approve = reverse("stages:rules-approve", args=[made.version])
    client.post(publish, {"do": "ask", "mode": "move"})
    asked = RuleApproval.objects.get()
    assert (asked.requested_by, asked.moving, asked.mode) == (anna, 1, "move")
    refused = client.post(approve)
    assert refused.status_code == 409
    assert "You asked for this approval yourself" in refused.content.decode()
    made.refresh_from_db()
    assert made.state == "draft"
    client.force_login(UserFactory(role="viewer"))
    assert client.post(approve).status_code == 403
    client.force_login(ben)
    assert "asks for a second person" in client.get(reverse("stages:rules", args=[made.version])).content.decode()
    client.post(approve)
    made.refresh_from_db()
    asked.refresh_from_db()
    assert (made.state, made.mode, made.published_by, asked.approved_by) == ("published", "move", anna, ben)


def test_the_database_knows_that_the_second_person_is_another_one() -> None:
    anna = UserFactory()
    with pytest.raises(IntegrityError), transaction.atomic():
        RuleApproval.objects.create(rule_set=drafted(RICH), mode="quiet", moving=1, requested_by=anna, approved_by=anna)


def test_an_edit_withdraws_the_request() -> None:
    published()
    made = drafted(RICH)
    rulesets.request_approval(rule_set=made, actor=UserFactory())
    rulesets.edit(rule_set=made, rules=[rule("rich", "advocate", spends(1)), LAST], name="Mine")
    with pytest.raises(Conflict, match="an edit withdraws the request"):
        rulesets.approve(rule_set=made, actor=UserFactory())


def test_a_draft_that_was_overtaken_names_who_overtook_it(marketer) -> None:
    published()
    mine, theirs = drafted(RICH), drafted([rule("rich", "advocate", spends(100)), LAST])
    ben = UserFactory(email="ben@shop.example")
    rulesets.publish(rule_set=theirs, actor=ben)
    with pytest.raises(Conflict, match=f"Version {theirs.version} was published after this draft was made, by {ben}"):
        rulesets.publish(rule_set=mine, actor=None)
    assert RuleSet.objects.get(state="published") == theirs
    page = marketer.get(reverse("stages:rules-changes", args=[mine.version]) + f"?against={theirs.version}")
    assert "spend of at least $50.00" in page.content.decode() or "$50.00" in page.content.decode()
    marketer.post(reverse("stages:rules-follow", args=[mine.version]))
    mine.refresh_from_db()
    assert rulesets.publish(rule_set=mine, actor=None).state == "published"


@pytest.mark.parametrize(
    ("mode", "due", "quiet"), [("quiet", True, True), ("move", True, False), ("later", False, False)]
)
def test_it_publishes_in_three_ways(mode, due, quiet) -> None:
    published()
    rich = person("reach", 9000)
    later = clock.whole_now() + timedelta(days=5)
    CustomerFacts.objects.update(next_review_at=later, is_quiet=False)
    done = rulesets.publish(rule_set=drafted(RICH), actor=None, mode=mode)
    row = CustomerFacts.objects.get(pk=rich.pk)
    assert done.mode == mode
    assert row.is_quiet is quiet
    assert (row.next_review_at is not None and seconds(row.next_review_at) <= seconds(clock.whole_now())) is due
    with pytest.raises(InvalidInput):
        rulesets.publish(rule_set=drafted([rule("rich", "advocate", spends(1)), LAST]), actor=None, mode="loud")


def test_later_is_when_time_first_changes_an_answer_of_the_new_rules() -> None:
    published()
    someone = person("reach", 0)
    CustomerFacts.objects.update(last_order_at=clock.now() - timedelta(days=80), next_review_at=None)
    quiet = rule("quiet", "dormant", {"fact": "last_order_at", "op": "days_since_gte", "value": 90})
    rulesets.publish(rule_set=drafted([quiet, LAST]), actor=None, mode="later")
    due = CustomerFacts.objects.get(pk=someone.pk).next_review_at
    assert due is not None
    assert seconds(due) == seconds(clock.now() + timedelta(days=10))


# --- Versions, presets, review, pins ----------------------------------------------------------------------------------


def test_it_tells_in_words_what_differs() -> None:
    old = rules.parse(
        [
            rule("one", "retain", spends(100)),
            rule("two", "nurture", spends(50)),
            rule("gone", "acquire", spends(10)),
            LAST,
        ]
    )
    new = rules.parse(
        [
            rule("two", "nurture", spends(50)),
            rule("one", "retain", spends(200), stay_days=5),
            rule("fresh", "advocate", spends(1, "lt")),
            LAST,
        ]
    )
    found = rulesets.differences(old, new)
    assert [(change.kind, change.rule) for change in found] == [
        ("moved", "Two"),
        ("changed", "One"),
        ("added", "Fresh"),
        ("removed", "Gone"),
    ]
    assert "$1.00" in found[1].was
    assert "$2.00" in found[1].now
    assert "after at least 5 days there" in found[1].now
    assert rulesets.differences(old, old) == []


def test_each_kind_of_shop_shows_what_it_would_do_and_becomes_a_draft(marketer) -> None:
    published()
    for days in (10, 40, 100, 200):
        someone = person("retain", 100)
        CustomerFacts.objects.filter(pk=someone.pk).update(
            orders=2, last_order_at=clock.now() - timedelta(days=days), gap_seconds=20 * 86_400
        )
    page = marketer.get(reverse("stages:rules-presets"))
    # 20 days is their own rhythm, 60 the shop's: quiet after 60 (fast), 90 (seasons) and 72 (regular) days.
    assert [(one["key"], one["moving"]) for one in page.context["presets"]] == [
        ("fast", 2),
        ("seasons", 2),
        ("regular", 2),
    ]
    answer = marketer.post(reverse("stages:rules-preset-draft", args=["fast"]))
    made = RuleSet.objects.get(state="draft")
    assert answer.url == reverse("stages:rules", args=[made.version])
    assert made.rules == presets.default_rules(60, presets.PRESETS[0])
    assert marketer.post(reverse("stages:rules-preset-draft", args=["bakery"])).status_code == 404


def test_after_a_year_it_asks_for_a_review_with_what_changed(marketer) -> None:
    current = published()
    Note.objects.create(name=presets.NOTE, value={"version": 1, "rhythm": 44, "repeaters": 50})
    assert "yearly review" not in marketer.get(reverse("stages:overview")).content.decode()
    old = TODAY - timedelta(days=400)
    RuleSet.objects.filter(pk=current.pk).update(published_at=noon(old))
    for n in range(4):
        one = person()
        move(one, "", "reach", old - timedelta(days=1))
        if n:
            move(one, "reach", "dormant", TODAY - timedelta(days=3))
    page = marketer.get(reverse("stages:overview"))
    shown = page.context["review"]
    assert (shown["rhythm_then"], shown["rhythm_now"], shown["days"]) == (44, 60, 400)
    shares = {row["stage"]: (row["then"], row["now"]) for row in shown["shares"]}
    assert (shares["reach"], shares["dormant"]) == (("100.0%", "25.0%"), ("0.0%", "75.0%"))
    assert "Usual gap between orders: 44 days then, 60 days now." in page.content.decode()


def test_it_lists_pins_and_ends_one(marketer) -> None:
    published()
    someone = person("retain")
    Pin.objects.create(
        customer=someone,
        stage="retain",
        until=clock.now() + timedelta(days=9),
        reason="Our best friend",
        user=UserFactory(),
    )
    assert "Our best friend" in marketer.get(reverse("stages:overview")).content.decode()
    marketer.post(reverse("stages:unpin", args=[someone.pk]))
    assert not Pin.objects.exists()
    assert CustomerFacts.objects.get(pk=someone.pk).next_review_at == clock.whole_now()
    with pytest.raises(Conflict):
        engine.unpin(customer_id=someone.pk)


def test_a_viewer_changes_nothing(client) -> None:
    current = published()
    made = drafted(RICH)
    client.force_login(UserFactory(role="viewer"))
    for name, args in (
        ("rules-numbers", [made.version]), ("rules-publish", [made.version]), ("rules-approve", [made.version]),
        ("rules-follow", [made.version]), ("rules-backtest", [made.version]), ("rules-preset-draft", ["fast"]), ("unpin", [1]),
    ):  # fmt: skip
        assert client.post(reverse(f"stages:{name}", args=args)).status_code == 403, name
    made.refresh_from_db()
    assert (made.state, made.rules, made.base) == ("draft", RICH, current)
    assert client.get(reverse("stages:rules", args=[made.version])).status_code == 200
    assert client.get(reverse("stages:rules-presets")).status_code == 200
    assert json.loads(client.get(reverse("stages:rules", args=[1])).context["form"].initial["rules"]) == [LAST]
    assert Customer.objects.count() == 0
    assert set(StageKey.values) == {"reach", "acquire", "nurture", "retain", "advocate", "dormant"}
