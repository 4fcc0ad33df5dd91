"""Lifecycle as code: the same text for the same shop, refusals that name file and line, and examples that are asked."""

from __future__ import annotations

import io
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
import yaml
from django.core.management import CommandError, call_command
from django.db import transaction
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from customers import segments
from customers.models import CustomerFacts, Segment
from lifecycle_crm import lifecycle_code
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import Conflict
from loyalty import presets as programme_presets
from loyalty import programme as programmes
from loyalty import rules as earning_rules
from loyalty.models import EarningRule, Programme
from stages import presets, rulesets
from stages.models import RuleSet, Stage
from tests.dashboard.factories import move, noon, order, person, rules

pytestmark = pytest.mark.django_db
TODAY = date(2026, 3, 11)
LAST = TODAY - timedelta(days=1)


@pytest.fixture(autouse=True)
def _noon():
    with time_machine.travel(noon(TODAY), tick=False):
        yield


@pytest.fixture
def shop() -> None:
    RuleSet.objects.create(
        version=1, name="Default rules", state="published", rules=presets.default_rules(60), note="Rhythm: 60 days."
    )
    Stage.objects.filter(key="nurture").update(goal="Ett andra köp", playbook=["Skriv", "yes", "2026-01-01"])
    big = segments.create(
        name="Big spenders", key="big", condition={"value": 10000, "op": "gte", "fact": "spend_minor"}
    )
    norwegian = {"fact": "country", "op": "eq", "value": "NO"}
    segments.create(name="A big Norwegian", condition={"all": [{"segment": big.key}, norwegian]})
    segments.create(name="By hand", key="by-hand", kind="static", note="Kept by Anna")


def read(text: str) -> lifecycle_code.Document:
    return lifecycle_code.read(io.StringIO(text), "lifecycle.yaml")


def command(*args: str) -> tuple[str, int]:
    out, code = io.StringIO(), 0
    try:
        call_command("lifecycle", *args, stdout=out)
    except SystemExit as gone:
        code = int(gone.code or 0)
    return out.getvalue(), code


def test_it_exports_imports_and_exports_the_same_bytes(shop, tmp_path):
    path = tmp_path / "lifecycle.yaml"
    command("export", str(path))
    first = path.read_bytes()
    assert b"lifecycle: 1\nstages:\n  - key: reach\n" in first
    assert "goal: Ett andra köp".encode() in first
    assert command("diff", str(path)) == ("", 0)
    assert command("import", str(path))[0] == "The shop is as the file says. Nothing to do.\n"

    # Into a shop that is another one.
    RuleSet.objects.all().delete()
    Stage.objects.update(goal="", playbook=[])
    Segment.objects.update(name="Old name", note="")
    told, code = command("import", str(path), "--publish")
    assert code == 0
    assert "Rules: version 1 is in force." in told
    assert "Segment big: changed." in told
    assert "Stage nurture: goal and playbook are changed." in told
    command("export", str(path))
    assert path.read_bytes() == first
    assert command("export", "-")[0].encode() == first


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
NAME = TEXT.filter(lambda text: bool(text.strip()))


@given(
    goal=TEXT,
    playbook=st.lists(TEXT, max_size=4),
    name=NAME,
    note=TEXT,
    titles=st.lists(TEXT, min_size=8, max_size=8),
    rhythm=st.integers(1, 400),
    kind=st.sampled_from(presets.PRESETS),
    segment=NAME,
)
@example(goal="a\x85b", playbook=["\u2028", "c\u2029"], name="d\re", note="\n", titles=[" f"] * 8, rhythm=9,
         kind=presets.PRESETS[0], segment="g\x85\n h")  # fmt: skip
@settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)  # fmt: skip
def test_it_carries_any_shop_into_an_empty_one_to_the_byte(goal, playbook, name, note, titles, rhythm, kind, segment):
    with transaction.atomic():
        Stage.objects.filter(key="retain").update(goal=goal, playbook=playbook)
        data = presets.default_rules(rhythm, kind)
        for rule, title in zip(data, titles, strict=True):
            rule["name"], rule["note"] = title, title[::-1]
        rulesets.publish(
            rule_set=rulesets.draft(based_on=None, rules=data, actor=None, name=name, note=note), actor=None
        )
        inner = segments.create(name=segment, key="inner", note=note, condition={"tag": "vip"})
        segments.create(name="Outer", key="aa", condition={"not": {"segment": inner.key}})
        segments.create(name="By hand", key="by-hand", kind="static")
        first = lifecycle_code.export()
        transaction.set_rollback(True)
    with transaction.atomic():
        assert not RuleSet.objects.exists()
        lifecycle_code.load(document=read(first), publish=True)
        assert lifecycle_code.export() == first
        assert lifecycle_code.diff(read(first)) == ""
        transaction.set_rollback(True)


def test_it_carries_programmes_with_tiers_and_rules_into_an_empty_shop_to_the_byte():
    with transaction.atomic():
        vip = segments.create(name="VIP", key="vip", condition={"tag": "vip"})
        for one in programme_presets.PRESETS:
            programme_presets.install(preset=one)
        coffee = Programme.objects.get(key="coffee")
        rules = {rule.key: rule for rule in earning_rules.in_force(coffee)}
        earning_rules.edit(
            rule=rules["double-mondays"], segment=vip.key, tiers=["gold"], ends_at=clock.now() + timedelta(days=40)
        )
        earning_rules.stop(rule=rules["friend"])
        programmes.stop(programme=Programme.objects.get(key="card"))
        first = lifecycle_code.export()
        transaction.set_rollback(True)
    assert not Programme.objects.filter(key="coffee").exists()
    for part in ("  - key: coffee\n", "is_active: false", "segment: vip", "key: gold", "ends_at:", "measure: points"):
        assert part in first
    assert "key: friend" not in first.partition("key: airline")[0]
    told = lifecycle_code.load(document=read(first)).told
    assert [line for line in told if "Programme" in line] == [
        f"Programme {key}: new." for key in ("coffee", "airline", "plus", "card")
    ]
    assert lifecycle_code.export() == first
    assert lifecycle_code.diff(read(first)) == ""
    assert lifecycle_code.load(document=read(first)).told == ["The shop is as the file says. Nothing to do."]


def test_it_changes_a_programme_stops_the_rules_it_leaves_out_and_takes_one_back():
    programme_presets.install(preset=next(one for one in programme_presets.PRESETS if one.key == "coffee"))
    coffee = Programme.objects.get(key="coffee")
    before = lifecycle_code.export()
    data = yaml.safe_load(before)
    [mine] = [one for one in data["programmes"] if one["key"] == "coffee"]
    mine["pending_days"] = 3
    mine["tiers"]["steps"][0]["threshold"] = 200
    mine["rules"] = [rule for rule in mine["rules"] if rule["key"] != "birthday"]
    changed = read(yaml.safe_dump({"lifecycle": 1, "programmes": [mine]}))
    diff = lifecycle_code.diff(changed)
    assert "-    pending_days: 0\n+    pending_days: 3\n" in diff
    assert "-      - key: birthday\n" in diff
    assert lifecycle_code.load(document=changed, dry_run=True).told == ["Programme coffee: changed."]
    coffee.refresh_from_db()
    assert coffee.pending_days == 0
    lifecycle_code.load(document=changed)
    coffee.refresh_from_db()
    assert (coffee.pending_days, coffee.tiers.get(key="green").threshold) == (3, 200)
    assert "birthday" not in {rule.key for rule in earning_rules.in_force(coffee)}
    lifecycle_code.load(document=read(before))
    assert lifecycle_code.export() == before
    assert EarningRule.objects.filter(programme=coffee, key="birthday").count() == 2


PROGRAMME = "lifecycle: 1\nprogrammes:\n  - key: club\n    name: Club\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lifecycle: 1\nprogrammes: 5\n", "line 2: programmes is a list"),
        ("lifecycle: 1\nprogrammes:\n  - key: club\n", "line 3: a programme needs a name."),
        (PROGRAMME + "    kind: casino\n", "line 5: no kind 'casino'. Use one of: points, membership, card."),
        (PROGRAMME + "    points: 5\n", "line 5: does not know 'points'"),
        (PROGRAMME + "    position: first\n", "line 5: position is a whole number, found 'first'."),
        (PROGRAMME + "    pending_days: -1\n", "must be a whole number from 0 to 3650"),
        (PROGRAMME + "    tiers:\n      steps:\n        - name: Gold\n", "line 7: a tier needs a threshold"),
        (PROGRAMME + "    rules:\n      - {key: a, kind: luck, name: A}\n", "Unknown kind “luck”"),
        (PROGRAMME + "    rules:\n      - {key: a, kind: order, name: A, points: 5, segment: nobody}\n", "“nobody”"),
        (
            PROGRAMME + "    rules:\n      - {key: a, kind: order, name: A, points: 5, tiers: [gold]}\n",
            "no tier “gold”",
        ),
        (PROGRAMME + "  - key: club\n    name: Two\n", "line 5: 'club' is there twice"),
    ],
)
def test_it_names_the_line_of_a_wrong_programme_and_writes_nothing(text, sentence):
    before = lifecycle_code.export()
    with pytest.raises(lifecycle_code.BadFile) as refused:
        lifecycle_code.load(document=read(text))
    assert sentence in str(refused.value)
    assert lifecycle_code.export() == before


def test_it_makes_new_segments_in_the_order_they_need(shop):
    text = lifecycle_code.export()
    text = text.replace("key: big\n", "key: zebra\n").replace("segment: big\n", "segment: zebra\n")
    text = text.replace("key: a-big-norwegian", "key: first")
    found = lifecycle_code.load(document=read(text))
    assert found.told == ["Segment zebra: new.", "Segment first: new."]
    assert set(Segment.objects.values_list("key", flat=True)) == {"big", "a-big-norwegian", "by-hand", "zebra", "first"}


def test_it_shows_what_would_change_and_makes_a_draft_only(shop, tmp_path):
    path = tmp_path / "lifecycle.yaml"
    path.write_text(lifecycle_code.export().replace("value: 2\n", "value: 3\n", 1), encoding="utf-8")
    told, code = command("diff", str(path))
    assert code == 1
    assert told.startswith("--- the shop\n+++ ")
    changed = [line for line in told.splitlines()[2:] if line[0] in "+-"]
    assert [line.replace(" ", "") for line in changed] == ["-value:2", "+value:3"]
    assert command("import", str(path), "--dry-run")[0].startswith("Would be: Rules: version 2 is a draft.")
    assert RuleSet.objects.count() == 1
    assert command("import", str(path))[0].startswith("Rules: version 2 is a draft.")
    assert dict(RuleSet.objects.values_list("version", "state")) == {1: "published", 2: "draft"}
    assert command("diff", str(path))[1] == 1
    drafted, _code = command("export", "-", "--version-number", "2")
    assert drafted == path.read_text(encoding="utf-8")


def test_it_leaves_alone_what_the_file_leaves_out(shop):
    document = read("lifecycle: 1\nstages:\n  - key: reach\n    goal: Hello\n")
    before = RuleSet.objects.count(), Segment.objects.count()
    assert lifecycle_code.load(document=document).told == ["Stage reach: goal and playbook are changed."]
    assert (RuleSet.objects.count(), Segment.objects.count()) == before
    assert Stage.objects.get(pk="nurture").goal == "Ett andra köp"


def test_it_holds_the_brake(shop, monkeypatch):
    for _n in range(60):
        someone = person("reach")
        move(someone, "", "reach", LAST - timedelta(days=50))
    RuleSet.objects.filter(version=1).update(rules=rules().rules)
    text = lifecycle_code.export()
    everybody = text[: text.index("rules:\n")] + (
        "rules:\n  name: All\n  rules:\n    - key: all\n      to: nurture\n      when:\n        all: []\n"
    )
    with pytest.raises(Conflict, match=r"60 customers would move.*--confirm 60"):
        lifecycle_code.load(document=read(everybody), publish=True)
    assert RuleSet.objects.get(state="published").name == "Default rules"
    assert RuleSet.objects.count() == 1
    lifecycle_code.load(document=read(everybody), publish=True, confirm=60)
    assert RuleSet.objects.get(state="published").name == "All"


HEAD = "lifecycle: 1\n"
RULE = """lifecycle: 1
rules:
  name: R
  rules:
    - key: a
      to: {to}
      when: {when}
    - key: b
      to: reach
      when: {{all: []}}
"""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("a: [", "line 1: is no YAML"),
        ("stages: []\n", "line 1: needs “lifecycle: 1” at the top"),
        (HEAD + "dreams: []\n", "line 2: does not know the section 'dreams'"),
        (HEAD + "stages: 7\n", "line 2: stages is a list"),
        (HEAD + "stages:\n  - key: buried\n", "line 3: no stage 'buried'. Use one of: reach"),
        (HEAD + "stages:\n  - key: reach\n    goals: x\n", "line 4: does not know 'goals'"),
        (HEAD + "stages:\n  - key: reach\n  - key: reach\n", "line 4: 'reach' is there twice"),
        (HEAD + "stages:\n  - key: reach\n    key: retain\n", "line 4: says 'key' twice"),
        (HEAD + "stages:\n  - &a\n    key: reach\n  - *a\n", "line 5: uses an alias"),
        (RULE.format(to="heaven", when="{all: []}"), "line 5: Rule 1 (a): moves to 'heaven'"),
        (RULE.format(to="retain", when="\n        all:\n          - fact: orders\n            op: gte\n            value: many"),
         "line 11: Rule 1 (a), when.all[0].value"),
        (RULE.format(to="retain", when="{fact: luck, op: gte, value: 1}"), "unknown fact 'luck'"),
        (HEAD + "segments:\n  - key: vip\n    name: VIP\n", "line 3: a live segment needs a condition"),
        (HEAD + "segments:\n  - {key: a, name: A, condition: {segment: b}}\n"
         "  - {key: b, name: B, condition: {segment: a}}\n",
         "there is no segment"),
        (HEAD + "segments:\n  - key: a\n    name: A\n    condition:\n      segment: a\n", "line 5:"),
    ],
)  # fmt: skip
def test_it_names_file_line_and_fix_and_writes_nothing(shop, text, sentence):
    before = lifecycle_code.export()
    with pytest.raises(lifecycle_code.BadFile) as refused:
        lifecycle_code.load(document=read(text))
    assert str(refused.value).startswith("lifecycle.yaml")
    assert sentence in str(refused.value)
    assert lifecycle_code.export() == before
    assert RuleSet.objects.count() == 1


def test_it_says_when_there_is_no_such_file_or_version_or_date(tmp_path):
    with pytest.raises(CommandError, match=r"'2026-02-30' is no date\. Write it as 2026-11-20\."):
        command("test", "-", "--as-of", "2026-02-30")
    with pytest.raises(CommandError, match=r"No such file or directory\. Check the path"):
        command("import", str(tmp_path / "nothing.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"\xe5\xe4")
    with pytest.raises(CommandError, match="is not UTF-8 text"):
        command("diff", str(tmp_path / "latin.yaml"))
    with pytest.raises(CommandError, match="There is no version 9 of the rules"):
        command("export", "-", "--version-number", "9")


EXAMPLES = """
examples:
  - name: A regular who fell silent
    facts: {orders: 4, last_order_at: 400 days ago, gap_seconds: 2592000}
    stage: dormant
    rule: goes_quiet
  - name: A fan
    facts: {orders: 2, last_order_at: 2026-03-01, nps_score: 10, answered_at: 2026-03-02}
    stage: advocate
  - name: Recommends
    facts: {orders: 3, last_order_at: 5 days ago}
    did: {referral: [2026-01-05]}
    stage: advocate
    rule: speaks_for_us
  - name: Wrong on purpose
    facts: {engaged_at: 1 day ago}
    stage: nurture
"""


def test_it_asks_the_rules_about_examples(shop, tmp_path):
    path = tmp_path / "lifecycle.yaml"
    path.write_text(lifecycle_code.export() + EXAMPLES.lstrip(), encoding="utf-8")
    told, code = command("test", str(path), "--as-of", "2026-03-10")
    assert code == 1
    lines = told.splitlines()
    assert lines[:3] == [
        "ok     A regular who fell silent: dormant by goes_quiet",
        "ok     A fan: advocate",
        "ok     Recommends: advocate by speaks_for_us",
    ]
    assert lines[3].startswith("WRONG  Wrong on purpose (line ")
    assert lines[3].endswith("expected nurture, decided acquire")
    assert lines[4] == "3 of 4 examples are right."
    # A year later the fan's answer is too old, and both have been silent for too long.
    assert "WRONG  A fan" in command("test", str(path), "--as-of", "2027-06-10")[0]
    assert command("import", str(path))[0] == "The shop is as the file says. Nothing to do.\n"


def test_it_asks_about_real_customers_as_they_were_and_keeps_nothing(shop):
    RuleSet.objects.filter(version=1).update(rules=presets.default_rules(60))
    someone = person()
    type(someone).objects.filter(pk=someone.pk).update(known_since=clock.day_start(LAST - timedelta(days=100)))
    order(someone, LAST - timedelta(days=90))
    order(someone, LAST - timedelta(days=5))
    before = CustomerFacts.objects.filter(pk=someone.pk).values().get()
    example = HEAD + f"examples:\n  - customer: {someone.pk}\n    stage: {{}}\n"
    for day, stage in ((LAST, "retain"), (LAST - timedelta(days=80), "nurture")):
        [result] = lifecycle_code.examine(read(example.format(stage)), day)
        assert result.is_right, result
    assert CustomerFacts.objects.filter(pk=someone.pk).values().get() == before
    with pytest.raises(lifecycle_code.BadFile, match=r"line 3: what customer .* Choose an --as-of up to 2026-03-10"):
        lifecycle_code.examine(read(example.format("retain")), TODAY)
    with pytest.raises(lifecycle_code.BadFile, match="was not known yet on 2025-11-01"):
        lifecycle_code.examine(read(example.format("reach")), date(2025, 11, 1))


@pytest.mark.parametrize(
    ("example", "sentence"),
    [
        ("{}", "expects the stage None"),
        ("{stage: retain}", "needs either facts or a customer"),
        ("{stage: retain, customer: 1000000}", "there is no customer 1000000"),
        ("{stage: retain, rule: luck, facts: {}}", "expects the rule 'luck'"),
        ("{stage: retain, facts: {luck: 1}}", "does not know 'luck'"),
        ("{stage: retain, facts: {orders: many}}", "orders is a whole number"),
        ("{stage: retain, facts: {last_order_at: yesterday}}", "'yesterday' is no moment"),
        ("{stage: retain, facts: {}, did: {dance: [2026-01-01]}}", "does not know 'dance'"),
    ],
)
def test_it_refuses_an_example_it_cannot_ask(shop, example, sentence):
    with pytest.raises(lifecycle_code.BadFile) as refused:
        lifecycle_code.examine(read(f"{HEAD}examples:\n  - {example}\n"), LAST)
    assert "line 3" in str(refused.value)
    assert sentence in str(refused.value)


def test_it_shows_an_example_in_the_docs_that_works(shop):
    page = Path(__file__).resolve().parents[2] / "docs" / "lifecycle-as-code.md"
    text = page.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    document = read(text)
    told: Any = lifecycle_code.load(document=document).told
    assert any("is a draft" in line for line in told)
    assert lifecycle_code.counted(lifecycle_code.examine(document, LAST)) == (3, 3)
