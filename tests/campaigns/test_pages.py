"""Through the doors: pages and REST."""

from __future__ import annotations

import pytest
import time_machine
from django.urls import reverse

from campaigns import audience, outbox
from campaigns.errors import NotNow
from campaigns.models import Campaign, Message, Run, Suppression, Template
from lifecycle_crm.accounts.models import ApiKey
from tests.campaigns.factories import NOON, CampaignFactory, VariantFactory, people, person, planned
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def noon():
    with time_machine.travel(NOON):
        yield


@pytest.fixture
def viewer(client):
    client.force_login(UserFactory(role="viewer"))
    return client


def draft(**fields):
    return CampaignFactory(state="draft", quiet_from=0, quiet_until=0, **fields)


def test_it_sends_a_broadcast_from_the_form_to_the_last_answer(marketer, smtp):
    template = VariantFactory(subject="Just for you").template
    fine, silent, elsewhere = person(), person(agrees=None), person(stage="nurture")
    answer = marketer.post(
        reverse("campaigns:new"),
        {"name": "November", "template": template.pk, "stages": ["retain"], "holdout_percent": 0},
    )
    campaign = Campaign.objects.get(name="November")
    assert answer.url == reverse("campaigns:detail", args=[campaign.pk])
    Campaign.objects.filter(pk=campaign.pk).update(quiet_from=0, quiet_until=0)

    page = marketer.get(answer.url).content.decode()
    assert "2 people in the audience" in page
    assert "Send to 1 person" in page
    assert "has not agreed to this" in page.lower()
    assert str(silent) in page
    assert Message.objects.count() == 0

    answer = marketer.post(reverse("campaigns:send", args=[campaign.pk]), follow=True)
    assert "2 people are in this send." in answer.content.decode()
    assert outbox.send_due() == {"sent": 1}
    assert [one.recipients for one in smtp.messages] == [[fine.email]]
    assert not Message.objects.filter(customer=elsewhere).exists()

    message = Message.objects.get(customer=fine)
    page = marketer.get(reverse("campaigns:message", args=[message.pk])).content.decode()
    assert "Just for you" in page
    assert "Sent: the mail server took it." in page
    assert "Agreed to" in page


def test_it_sends_a_broadcast_once_however_often_the_button_is_pressed(marketer):
    campaign = draft()
    person()
    url = reverse("campaigns:send", args=[campaign.pk])
    marketer.post(url)
    answer = marketer.post(url)
    assert answer.status_code == 409
    assert Run.objects.count() == 1
    assert Message.objects.count() == 1


def test_it_sends_nothing_to_an_empty_audience(marketer):
    campaign = draft()
    with pytest.raises(NotNow):
        audience.send(campaign=campaign)
    campaign.refresh_from_db()
    assert campaign.state == "draft"
    assert Run.objects.count() == 0


def test_it_tells_what_the_run_will_do_before_it_does_it():
    campaign = draft(holdout_percent=20)
    everybody = people(200)
    person(agrees=False)
    person(email="")
    person(facts={"open_cases": 1})
    seen = audience.forecast(campaign)
    assert seen.audience == seen.looked_at == 203
    counts = {(outcome, reason): n for outcome, reason, n in seen.counts}
    audience.send(campaign=campaign)
    run = Run.objects.get()
    held_out = Message.objects.filter(run=run, state="held_out").count()
    assert counts[("held_out", "holdout")] == held_out > 0
    assert counts[("skipped", "no_consent")] == counts[("skipped", "no_address")] == 1
    assert seen.to_send == Message.objects.filter(run=run, state="queued").count() == 201 - held_out
    assert len(everybody) == 200


def test_it_lets_nobody_send_who_may_only_look(viewer):
    campaign = draft()
    run = planned([person()])
    for url in (
        reverse("campaigns:new"),
        reverse("campaigns:send", args=[campaign.pk]),
        reverse("campaigns:switch", args=[campaign.pk, "pause"]),
        reverse("campaigns:run-act", args=[run.pk, "cancel"]),
    ):
        assert viewer.post(url).status_code == 403
    run.refresh_from_db()
    campaign.refresh_from_db()
    assert (run.state, campaign.state) == ("sending", "draft")
    assert "Send to" not in viewer.get(reverse("campaigns:detail", args=[campaign.pk])).content.decode()


def test_it_asks_for_a_sign_in_everywhere_but_at_the_way_out(client):
    run = planned([person()])
    message = Message.objects.get()
    for name, args in (
        ("list", []), ("new", []), ("outbox", []), ("detail", [run.campaign_id]), ("preview", [run.campaign_id]),
        ("message", [message.pk]), ("message-html", [message.pk]),
    ):  # fmt: skip
        assert client.get(reverse(f"campaigns:{name}", args=args)).status_code == 302


def test_it_pauses_resumes_and_cancels_a_run_by_button(marketer):
    run = planned(people(3))
    for verb, state in (("pause", "paused"), ("resume", "sending"), ("cancel", "cancelled")):
        marketer.post(reverse("campaigns:run-act", args=[run.pk, verb]))
        run.refresh_from_db()
        assert run.state == state
    assert Message.objects.filter(state="cancelled").count() == 3


def test_it_says_plainly_that_messages_stay_here(marketer):
    planned(people(2))
    outbox.send_due()
    for name in ("list", "outbox"):
        assert "kept here, not sent to the internet" in marketer.get(reverse(f"campaigns:{name}")).content.decode()


def test_it_pages_the_outbox_by_the_last_id_seen(marketer, django_assert_max_num_queries):
    planned(people(120))
    url = reverse("campaigns:outbox")
    seen: list[int] = []
    before = ""
    for rows in (50, 50, 20):
        with django_assert_max_num_queries(8):
            answer = marketer.get(url, {"before": before} if before else {})
        page = [one.pk for one in answer.context["rows"]]
        assert len(page) == rows
        seen += page
        before = answer.context["next_before"]
    assert before is None
    assert seen == sorted(set(seen), reverse=True)
    assert len(seen) == 120
    answer = marketer.get(url, {"state": "sent"})
    assert answer.context["rows"] == []
    assert "Nothing matches" in answer.content.decode()


def test_it_lists_any_number_of_campaigns_with_the_same_queries(marketer, django_assert_max_num_queries):
    for _ in range(12):
        planned(people(2))
    with django_assert_max_num_queries(8):
        marketer.get(reverse("campaigns:list"))


def test_it_shows_the_message_in_a_frame_that_can_do_nothing(marketer):
    planned(people(1))
    outbox.send_due()
    message = Message.objects.get()
    answer = marketer.get(reverse("campaigns:message-html", args=[message.pk]))
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "frame-ancestors 'self'" in policy
    assert "script-src" not in policy
    assert "'unsafe-inline'" not in policy
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    page = marketer.get(reverse("campaigns:message", args=[message.pk])).content.decode()
    assert "<iframe sandbox src=" in page


def test_it_escapes_names_on_every_page(marketer):
    bad = "<script>alert(1)</script>"
    campaign = CampaignFactory(name=bad)
    planned([person(name=bad, given_name=bad)], campaign)
    outbox.send_due()
    message = Message.objects.get()
    for name, args in (
        ("list", []),
        ("outbox", []),
        ("detail", [campaign.pk]),
        ("message", [message.pk]),
        ("message-html", [message.pk]),
    ):
        assert bad not in marketer.get(reverse(f"campaigns:{name}", args=args)).content.decode()


@pytest.mark.parametrize("role", ["analyst", "viewer"])
def test_it_hides_names_and_addresses_from_roles_that_may_not_see_them(client, role, smtp):
    campaign = CampaignFactory(quiet_from=0, quiet_until=0)
    someone = person(name="Åsa Öberg", given_name="Åsa", email="asa@example.org")
    smtp.on_recipient = "550 5.7.1 asa@example.org is not for you"
    planned([someone], campaign)
    outbox.send_due()
    message = Message.objects.get()
    waiting = draft()
    client.force_login(UserFactory(role=role))
    pages = {
        name: client.get(reverse(f"campaigns:{name}", args=args)).content.decode()
        for name, args in (
            ("list", []),
            ("outbox", []),
            ("detail", [campaign.pk]),
            ("gate", [campaign.pk]),
            ("message", [message.pk]),
        )
    }
    pages["draft"] = client.get(reverse("campaigns:detail", args=[waiting.pk])).content.decode()
    pages["api"] = client.get("/api/v1/messages/").content.decode()
    for name, page in pages.items():
        for secret in ("Öberg", "Åsa", "asa@example.org"):
            assert secret not in page, name
    assert "Å… Ö…" in pages["outbox"]
    assert "550 5.7.1 … is not for you" in pages["message"]
    assert client.get(reverse("campaigns:message-html", args=[message.pk])).status_code == 403
    assert client.get(reverse("campaigns:preview", args=[campaign.pk]), {"customer": someone.pk}).status_code == 403


# --- REST -------------------------------------------------------------------------------------------------------------


def key(*scopes: str) -> dict[str, str]:
    _key, secret = ApiKey.issue(name="test", scopes=list(scopes))
    return {"HTTP_AUTHORIZATION": f"Bearer {secret}"}


def test_it_makes_and_sends_a_draft_over_rest(client):
    template = VariantFactory().template
    person()
    body = {
        "name": "From the shop",
        "template": template.key,
        "audience": {"fact": "stage", "op": "in", "value": ["retain"]},
        "holdout_percent": 0,
    }
    writes, reads = key("campaigns:write"), key("campaigns:read")
    assert client.post("/api/v1/campaigns/", body, content_type="application/json", **reads).status_code == 403
    answer = client.post("/api/v1/campaigns/", body, content_type="application/json", **writes)
    assert answer.status_code == 201
    made = answer.json()
    assert (made["state"], made["template"]) == ("draft", template.key)
    answer = client.post(f"/api/v1/campaigns/{made['id']}/send/", **writes)
    assert answer.status_code == 202
    run = answer.json()
    assert (run["state"], run["audience"], run["states"]) == ("sending", 1, {"queued": 1})
    again = client.post(f"/api/v1/campaigns/{made['id']}/send/", **writes)
    assert (again.status_code, again.json()["code"]) == (409, "wrong_state")
    listed = client.get("/api/v1/messages/", {"run": run["id"], "state": "queued"}, **reads).json()
    assert [one["run"] for one in listed["results"]] == [run["id"]]
    assert client.post(f"/api/v1/runs/{run['id']}/cancel/", **writes).json()["states"] == {"cancelled": 1}


def test_it_refuses_an_audience_it_cannot_read(client):
    body = {
        "name": "X",
        "template": VariantFactory().template.key,
        "audience": {"fact": "shoe_size", "op": "eq", "value": 1},
    }
    answer = client.post("/api/v1/campaigns/", body, content_type="application/json", **key("campaigns:write"))
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_condition")
    assert not Campaign.objects.filter(name="X").exists()


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_it_shows_the_message_in_a_real_browser_without_a_complaint(chromium, context, live_server, client):
    everybody = people(3)
    planned(everybody, CampaignFactory(name="Seen", quiet_from=0, quiet_until=0))
    outbox.send_due()
    client.force_login(UserFactory(role="marketer"))
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    chromium.goto(reverse("campaigns:outbox"))
    chromium.get_by_role("link", name="What they saw").first.click()
    frame = chromium.frame_locator("iframe")
    frame.get_by_text("You have 0 points.").wait_for()
    size = frame.get_by_text("You have 0 points.").evaluate("one => getComputedStyle(one).fontSize")
    assert size == "16px"  # its own styles are allowed
    chromium.goto(reverse("campaigns:list"))
    chromium.get_by_role("link", name="Seen").click()
    chromium.get_by_role("heading", name="Everybody it was meant for").wait_for()
    chromium.frame_locator("iframe").get_by_text("You have 0 points.").wait_for()


def test_it_shows_every_table_in_the_admin_and_refuses_a_broken_text_there(client):
    client.force_login(UserFactory(role="owner", is_staff=True, is_superuser=True))
    planned(people(2))
    outbox.send_due()
    for model in ("template", "templatevariant", "campaign", "run", "message", "rendering", "slot", "suppression"):
        assert client.get(reverse(f"admin:campaigns_{model}_changelist")).status_code == 200
    body = {
        "key": "bad", "name": "Bad", "purpose": "marketing",
        "variants-TOTAL_FORMS": 1, "variants-INITIAL_FORMS": 0,
        "variants-0-language": "en", "variants-0-version": 1, "variants-0-subject": "S",
        "variants-0-blocks": '[{"type": "text", "text": "{{ broken"}]',
    }  # fmt: skip
    answer = client.post(reverse("admin:campaigns_template_add"), body)
    assert "Block 1 has a mistake" in answer.content.decode()
    assert not Template.objects.filter(key="bad").exists()
    client.post(reverse("admin:campaigns_suppression_add"), {
        "channel": "email", "address_key": " Anna@Example.com ", "reason": "manual", "diagnostic": "asked by phone",
        "created_at_0": "2026-11-20", "created_at_1": "10:00:00",
    })  # fmt: skip
    assert Suppression.objects.get().address_key == "anna@example.com"
