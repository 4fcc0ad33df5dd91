"""Every page, in a real browser, as a new user finds it after ``make run``: no console error, no axe violation.

The list of pages comes from the URL resolver: a new page without an entry here fails the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.urls import get_resolver, reverse

from campaigns import hooks, letters, planning, stafftasks
from campaigns.experiments import asking, counting, deciding, life
from campaigns.experiments.asking import Wanted
from campaigns.journeys import publishing
from campaigns.models import (
    Campaign,
    Experiment,
    ExperimentDay,
    ExperimentVerdict,
    JourneyRun,
    Message,
    Rendering,
    StaffTask,
    WebhookDelivery,
    WebhookTarget,
)
from campaigns.signups import asking as signing_up
from campaigns.signups import editing as signups
from customers import builder, membership, segments
from customers.models import Customer, CustomerFacts, ImportRun
from feedback import cases, links, surveys
from feedback.models import Case, Response
from lifecycle_crm import night, reactions
from lifecycle_crm.accounts.models import Role
from lifecycle_crm.demo import shop
from lifecycle_crm.lib import clock
from loyalty import grants, ledger, referrals, rewards, signoffs, vouchers, wallet
from loyalty.models import EarningRule, Extension, Grant, Programme, Redemption, Referral, ReferralCode, Voucher
from stages import backtest, rulesets
from stages.models import Backtest, RuleSet
from tests.factories import PASSWORD, UserFactory
from tests.readable import faults

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

ACTIONS = {
    # They answer to a POST, or give a file; the tests of their apps go through them.
    "accounts:sign-out",
    "dashboard:home-csv",
    "dashboard:flow-csv",
    "dashboard:retention-csv",
    "dashboard:rfm-csv",
    "dashboard:rfm-segment",
    "customers:export",
    "customers:import-run",
    "customers:import-refusals",
    "customers:segment-panel",
    "customers:segment-archive",
    "customers:segment-duplicate",
    "customers:segment-members",
    "campaigns:message-html",
    "campaigns:template-act",
    "campaigns:template-preview",
    "campaigns:template-test",
    "campaigns:preview",
    "campaigns:send",
    "campaigns:click",
    "campaigns:opened",
    "campaigns:webhook",
    "campaigns:short",
    "campaigns:sms-reply",
    "campaigns:sms-report",
    "campaigns:lift",
    "campaigns:switch",
    "campaigns:run-act",
    "campaigns:playbook-install",
    "campaigns:journey-edit",
    "campaigns:journey-publish",
    "campaigns:journey-take-up",
    "campaigns:journey-move",
    "campaigns:journey-remove",
    "campaigns:journey-switch",
    "campaigns:tasks-csv",
    "campaigns:task-act",
    "campaigns:hook-renew",
    "campaigns:hook-again",
    "campaigns:experiment-csv",
    "campaigns:experiment-act",
    "campaigns:sign-up-act",
    "feedback:link-create",
    "feedback:case-answer",
    "feedback:case-note",
    "feedback:case-assign",
    "feedback:case-close",
    "loyalty:points-redeem",
    "loyalty:points-adjust",
    "loyalty:points-undo",
    "loyalty:preset-install",
    "loyalty:programme-switch",
    "loyalty:rule-stop",
    "loyalty:points-transfer",
    "loyalty:points-merge",
    "loyalty:points-unmerge",
    "loyalty:household-join",
    "loyalty:household-leave",
    "loyalty:hold-void",
    "loyalty:membership-renew",
    "loyalty:membership-leave",
    "loyalty:approval-decide",
    "loyalty:unfreeze",
    "loyalty:liability-csv",
    "loyalty:ledger-csv",
    "loyalty:counter-redeem",
    "loyalty:reward-picture",
    "loyalty:reward-picture-remove",
    "loyalty:picture",
    "loyalty:voucher-upload",
    "loyalty:voucher-use",
    "loyalty:wallet-undo",
    "loyalty:wallet-mail",
    "loyalty:referral-approve",
    "loyalty:voucher-generate",
    "loyalty:voucher-issue",
    "loyalty:redemption-prepare",
    "loyalty:redemption-hand-out",
    "night-run",
    "set_language",
    "dashboard:customer-move",
    "dashboard:customer-consent-record",
    "dashboard:customer-survey-link",
    "dashboard:customer-points-give",
    "dashboard:customer-edit",
    "stages:rules-install",
    "stages:rules-draft",
    "stages:rules-publish",
    "stages:rules-discard",
    "stages:rules-restore",
    "stages:rules-numbers",
    "stages:rules-preset-draft",
    "stages:rules-approve",
    "stages:rules-follow",
    "stages:rules-backtest",
    "stages:backtest-stop",
    "stages:unpin",
    "rules-effects",
    "health",
    "api-schema",
    "-",
}


def _names(patterns: Any, space: str = "") -> Iterator[str]:
    for one in patterns:
        if hasattr(one, "url_patterns"):
            if one.app_name not in ("admin", "api"):
                yield from _names(one.url_patterns, f"{space}{one.namespace}:" if one.namespace else space)
        else:
            yield f"{space}{one.name or '-'}"


@pytest.fixture
def crm(settings: Any) -> dict[str, str]:
    """A small sample shop with three weeks of nights, an answer with a case, a message and a link; every page by name."""
    note = shop.build(customers=60)
    last = clock.last_complete_day()
    assert str(last) == note["to"]
    night.replay(last - timedelta(days=20), last - timedelta(days=1))
    night.run(last)
    person = CustomerFacts.objects.order_by("-orders").first().customer
    redeemed = _redeemed(person)
    survey = surveys.get("nps")
    surveys.record(
        customer=person, survey=survey, score=2, comment="Nobody answered me.", answered_at=clock.now(), source="t",
        source_id="1", is_history=False,
    )  # fmt: skip
    cases.open_for_responses(list(Response.objects.filter(source="t").values_list("pk", flat=True)))
    invitation = surveys.invite(customer=person, survey=survey, key="walk")
    campaign = Campaign.objects.order_by("pk").first()
    run = planning.plan(campaign=campaign, run_key="walk", audience=[person.pk], as_of=clock.now(), start=False)
    message = Message.objects.get(run=run)
    made = letters.preview(campaign=campaign, customer=person)
    Rendering.objects.create(message=message, subject=made.subject, html=made.html, text=made.text)
    imported = ImportRun.objects.create(
        kind="customers", file_name="people.csv", path="", state="done", rows=3, created=3
    )
    _signed()
    segments.create(name="Going quiet", key="quiet", condition=builder.STARTS[0].tree)
    membership.record(business_date=clock.today(), as_of=clock.day_end(clock.today()))
    arguments: dict[str, dict[str, Any]] = {
        **{
            name: {"pk": person.pk}
            for name in _names(get_resolver().url_patterns)
            if name.startswith("dashboard:customer")
        },
        "customers:import-detail": {"pk": imported.pk},
        "customers:segment": {"key": "quiet"},
        "customers:segment-edit": {"key": "quiet"},
        "stages:rules": {"version": RuleSet.objects.get(state="published").version},
        "stages:rules-movers": {"version": RuleSet.objects.get(state="published").version},
        "stages:rules-changes": {"version": RuleSet.objects.get(state="published").version},
        "stages:backtest": {"pk": _replayed().pk},
        "stages:night": {"day": str(last)},
        "night-undo": {"day": str(last)},
        "night-preview": {"day": str(last)},
        "loyalty:account": {"customer_id": person.pk},
        "loyalty:programme": {"key": "points"},
        "loyalty:preset": {"key": "coffee"},
        "loyalty:programme-edit": {"key": "points"},
        "loyalty:tiers": {"key": "points"},
        "loyalty:rule-new": {"key": "points", "kind": "amount"},
        "loyalty:rule": {"pk": EarningRule.objects.get(programme__key="points").pk},
        "loyalty:points-move": {"customer_id": person.pk},
        "loyalty:memberships": {"customer_id": person.pk},
        "loyalty:liability-people": {"which": "never"},
        "loyalty:extension-undo": {"pk": _extended(person).pk},
        "loyalty:grant": {"pk": (granted := _granted(person)).pk},
        "loyalty:grant-undo": {"pk": granted.pk},
        "loyalty:counter": {"customer_id": person.pk},
        "loyalty:referral-public": {"code": _recommended(person).code},
        "loyalty:referral-refuse": {"pk": Referral.objects.get(email="friend@shop.example").pk},
        "loyalty:wallet": {"token": wallet.token(wallet.card(person))},
        "loyalty:wallet-redeem": {"token": wallet.token(wallet.card(person)), "pk": redeemed.reward_id},
        "loyalty:programme-public": {"key": redeemed.reward.programme.key},
        "loyalty:voucher-series": {"pk": _given(person).series_id},
        "loyalty:reward": {"pk": redeemed.reward_id},
        "loyalty:redemption-cancel": {"pk": redeemed.pk},
        "feedback:case": {"pk": Case.objects.get().pk},
        "feedback:survey": {"token": links.token(invitation)},
        "campaigns:detail": {"pk": campaign.pk},
        "campaigns:template": {"key": "win-back", "language": "en"},
        "campaigns:template-versions": {"key": "win-back", "language": "en"},
        "campaigns:gate": {"pk": campaign.pk},
        "campaigns:message": {"pk": message.pk},
        **_journey(person),
        "campaigns:experiment": {"pk": _experiment(campaign).pk},
        "campaigns:unsubscribe": {"token": _way_out(person, message)},
        **_signed_up(),
    }
    names = sorted(set(_names(get_resolver().url_patterns)) - ACTIONS)
    return {name: reverse(name, kwargs=arguments.get(name)) for name in names}


def _extended(person: Customer) -> Extension:
    """Points that may be used a month longer."""
    ends = clock.day_end(clock.today() + timedelta(days=9))
    ledger.earn(customer=person, points=5, key="walk-end", expires_at=ends)
    return ledger.extend(
        expires_at=ends + timedelta(days=30), key="walk", actor=None, reason="The shop was closed", customers=[person]
    )


def _granted(person: Customer) -> Grant:
    """Points that were given to a list of people."""
    made = grants.ask(whom=grants.of_list([person.pk]), points=5, key="walk", actor=None, reason="The shop was closed")
    grants.work()
    made.refresh_from_db()
    return made


def _signed() -> None:
    """The figures of yesterday, signed before the walk began."""
    programme = Programme.current()
    assert programme is not None
    signoffs.sign(
        programme=programme, day=clock.last_complete_day(), note="Agrees with the books", key="walk",
        actor=UserFactory(role=Role.OWNER),
    )  # fmt: skip


def _signed_up() -> dict[str, dict[str, Any]]:
    """A sign-up form, and somebody who has not confirmed."""
    form = signups.create(name="News", tag="news", asks_name=True)
    asked = signing_up.ask(form=form, email="stranger@shop.example", language="en")
    of = {"key": form.key}
    return {
        "campaigns:sign-up": of,
        "campaigns:sign-up-confirm": {"token": signing_up.confirm_url(asked).rstrip("/").rpartition("/")[2]},
        "campaigns:sign-up-form": of,
        "campaigns:sign-up-settings": of,
        "campaigns:sign-up-words": {**of, "language": "sv"},
    }


def _redeemed(person: Customer) -> Redemption:
    """A reward that waits to be handed out."""
    programme = Programme.current()
    assert programme is not None
    mug = rewards.create(programme=programme, name="Mug", points=1, stock=9, per_customer=2, prices={"Gold": 0})
    ledger.earn(customer=person, points=50, key="walk")
    return rewards.redeem(reward=mug, customer=person, key="walk")


def _given(person: Customer) -> Voucher:
    """A voucher of a stock that has more."""
    series = vouchers.create(name="Ten off", worth="percent", percent=10, valid_days=30, is_endless=False)
    vouchers.generate(series=series, count=3)
    return vouchers.issue(series=series, customer=person, key="walk")


def _recommended(person: Customer) -> ReferralCode:
    """The code of somebody who brought a friend."""
    programme = Programme.current()
    assert programme is not None
    referrals.set_offer(programme=programme, advocate_points=100, friend_points=50)
    of = referrals.code(person)
    referrals.claim(code=of.code, email="friend@shop.example")
    return of


def _journey(person: Customer) -> dict[str, dict[str, Any]]:
    """A live journey with every kind of step, one person inside, and a draft that differs."""
    tree: dict[str, Any] = {
        "trigger": {"on": "first_order"},
        "steps": [
            {"id": "s1", "do": "wait", "days": 7},
            {"id": "s2", "do": "split", "branches": [{"when": {"segment": "quiet"}, "steps": []}], "else": []},
            {"id": "s3", "do": "points", "points": 20, "reason": "Thanks"},
            {"id": "s4", "do": "task", "kind": "call", "what": "Ask how it went", "days": 2, "role": "support"},
            {"id": "s5", "do": "task_done", "task": "s4", "at_most": {"days": 7}, "branches": [{"steps": []}]},
        ],
    }
    made = publishing.create(name="Welcome", tree=tree, goal={"order": True})
    version = publishing.publish(journey=made)
    now = clock.now()
    run = JourneyRun.objects.create(
        journey=made, version=version, customer=person, key="walk", number=1, step="s1", since=now, entered_at=now,
        due_at=now + timedelta(days=7),
    )  # fmt: skip
    wanted = stafftasks.Wanted(run.pk, "s4", person.pk, "call", "Ask how it went", 2, "support")
    stafftasks.ask([wanted], at=clock.whole_now())
    # Not through the verb, which asks the network who is there.
    target = WebhookTarget.objects.create(key="warehouse", name="Warehouse", url="https://warehouse.shop.example/hook")
    hooks.add([hooks.Wanted(run.pk, "s6", person.pk, target.pk, ())], at=clock.whole_now())
    WebhookDelivery.objects.update(
        state="gave_up", due_at=None, settled_at=now, tries=8, status=500, error="Too many connections"
    )
    tree["steps"][0]["days"] = 5
    tree["steps"][2]["points"] = 0
    publishing.save(journey=made, tree=tree)
    of = {"pk": made.pk}
    tabs = ("", "-trigger", "-map", "-people", "-results", "-versions", "-settings", "-try")
    return {
        **{f"campaigns:journey{tab}": of for tab in tabs},
        "campaigns:journey-step": {**of, "step": "s2"},
        "campaigns:journey-way": {**of, "run": run.pk},
        "campaigns:hook": {"pk": target.pk},
        "campaigns:task": {"pk": StaffTask.objects.get(run=run).pk},
    }


def _experiment(campaign: Campaign) -> Experiment:
    """One that is judged, with a warning, and on which nobody has acted."""
    made = asking.create(
        campaign=campaign, name="Which hour", versions=[Wanted(50), Wanted(50, hour=10)], stated_percent=5.0
    )
    life.start(experiment=made)
    told = [
        counting.Standing(label, 50, joined=900, people=900, clicked=clicked, unsubscribed=gone)
        for label, clicked, gone in (("A", 40, 1), ("B", 90, 30))
    ]
    found = deciding.look(told, measure="click")
    for version, one in zip(made.versions.order_by("label"), told, strict=True):
        ExperimentDay.objects.create(
            version=version, business_date=clock.today(), joined=one.joined, people=one.people, clicked=one.clicked,
            unsubscribed=one.unsubscribed,
        )  # fmt: skip
    ExperimentVerdict.objects.create(
        experiment=made, business_date=clock.today(), kind=found.kind, winner=made.versions.get(label="B"),
        is_yellow=found.is_yellow, numbers=found.numbers,
    )  # fmt: skip
    return made


def _replayed() -> Backtest:
    """A draft with a replay of the three weeks there are."""
    made = rulesets.draft(based_on=RuleSet.objects.get(state="published"), rules=None, actor=None)
    backtest.request(rule_set=made, months=3, actor=None)
    done = backtest.work_due(hand_down=reactions.hand_down, happened=reactions.HANDED_FROM)
    assert done is not None
    return done


def _way_out(person: Customer, message: Message) -> str:
    from campaigns import links as campaign_links

    url = campaign_links.unsubscribe_url(customer_id=person.pk, message_id=message.pk, purpose="marketing")
    return url.rstrip("/").rpartition("/")[2]


def _sign_in(page: Any) -> None:
    UserFactory(email="anna@shop.example", role=Role.OWNER, is_staff=True, is_superuser=True)
    page.goto("/sign-in/")
    page.fill("[name=username]", "anna@shop.example")
    page.fill("[name=password]", PASSWORD)
    page.press("[name=password]", "Enter")
    page.wait_for_url("**/")
    page.wait_for_load_state("networkidle")


def _check(page: Any, name: str, path: str) -> list[str]:
    answer = page.goto(path)
    found = [] if answer.status == 200 else [f"{name}: answered {answer.status}"]
    if name == "api-docs":  # Swagger's own markup; ours is the rule that it draws and stays silent
        page.wait_for_selector(".opblock-tag")
        return found
    if page.locator("h1").count() != 1:
        found.append(f"{name}: {page.locator('h1').count()} headings of the first level")
    return [*found, *(f"{name}: {fault}" for fault in faults(page))]


def test_it_notices_what_nobody_can_read(chromium: Any) -> None:
    pale = "<h1 style='color:#ccc;background:#fff'>Pale</h1><img src=data:,><div style='width:9000px;height:9px'></div>"
    chromium.set_content(f"<!doctype html><html lang=en><title>Pale</title><main>{pale}</main>")
    wide, *rules = faults(chromium)
    assert wide.endswith("px wider than the window")
    assert {rule.partition(" ")[0] for rule in rules} == {"color-contrast", "image-alt"}


def test_it_walks_every_page_without_an_error_or_a_violation(
    crm: dict[str, str], chromium: Any, problems: list[str]
) -> None:
    assert len(crm) > 30
    _sign_in(chromium)
    found: list[str] = []
    for width, scheme in ((1280, "light"), (390, "dark")):
        chromium.set_viewport_size({"width": width, "height": 900})
        chromium.emulate_media(color_scheme=scheme)
        for name, path in crm.items():
            if name == "accounts:sign-in":
                continue
            found += [f"{width} {scheme}: {problem}" for problem in _check(chromium, name, path)]
            found += [f"{width} {scheme}: {name}: {problem}" for problem in problems]
            problems.clear()
    assert not found, "\n".join(found)


def test_the_admin_opens_every_table(crm: dict[str, str], chromium: Any, problems: list[str]) -> None:
    _sign_in(chromium)
    found: list[str] = []
    tables = [model._meta for model in admin.site._registry]
    assert len(tables) > 35
    for meta in tables:
        answer = chromium.goto(reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist"))
        found += [f"{meta.label}: answered {answer.status}"] if answer.status != 200 else []
        found += [f"{meta.label}: {problem}" for problem in problems]
        problems.clear()
    assert found == []
