"""Journeys that tell other systems: one row per way and step, posted at least once, and never into our own network."""

from __future__ import annotations

import json
import socket
import time
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.urls import reverse

from campaigns import audit, hooks, limits
from campaigns.journeys import engine, entering, publishing, reading, trying, words
from campaigns.models import Journey, JourneyRun, WebhookDelivery, WebhookTarget
from customers.models import ExternalId
from lifecycle_crm.lib import outward
from lifecycle_crm.lib.errors import Conflict, InvalidInput
from tests.api.factories import caller
from tests.campaigns.factories import happens, live_journey, person, trail
from tests.campaigns.receiver import Ear
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]


@pytest.fixture
def target(receiver) -> WebhookTarget:
    return hooks.create(name="Warehouse", url=receiver.url)


def told(target: WebhookTarget, *people, fields: tuple[str, ...] = ()) -> Journey:
    made = live_journey([{"id": "s1", "do": "webhook", "target": target.key, "fields": list(fields)}])
    entering.for_events([happens(one).pk for one in people])
    engine.advance_due()
    return made


def stands() -> list[tuple[str, int, int | None]]:
    return list(WebhookDelivery.objects.order_by("pk").values_list("state", "tries", "status"))


def test_it_tells_ids_and_what_the_marketer_chose_signed_once_per_way_and_step(target, receiver):
    anna, bo = person(name="Anna Berg", email="anna@mail.example", facts={"orders": 3}), person()
    ExternalId.objects.create(customer=anna, source="shop", value="A-1")
    told(target, anna, bo, fields=("external_ids", "stage", "orders"))
    assert trail(anna) == ["s1:webhook", ":left"]
    assert hooks.send_due() == {"delivered": 2}
    assert hooks.send_due() == {}
    first = WebhookDelivery.objects.get(customer=anna)
    heard, body = next((h, b) for h, b in receiver.heard if h["X-Lifecycle-Delivery"] == str(first.number))
    run = first.run
    assert json.loads(body) == {
        "delivery": str(first.number),
        "happened_at": "2026-11-20T11:00:00+00:00",
        "journey": {"id": run.journey_id, "key": "welcome"},
        "run": {"id": run.pk, "number": 1, "cause": run.key, "step": "s1"},
        "customer": {
            "id": anna.pk, "external_ids": [{"source": "shop", "value": "A-1"}], "stage": "retain", "orders": 3,
        },
    }  # fmt: skip
    assert b"anna@mail" not in body
    stamp = heard["X-Lifecycle-Timestamp"]
    assert heard["X-Lifecycle-Signature"] == f"v1={hooks.sign(target.secret, stamp, body)}"
    assert heard["Host"] == receiver.host
    assert hooks.sign(target.secret, stamp, body + b" ") not in heard["X-Lifecycle-Signature"]
    with pytest.raises(IntegrityError), transaction.atomic():
        WebhookDelivery.objects.create(
            target=target, run=run, step="s1", customer=anna, due_at=first.created_at, created_at=first.created_at
        )
    assert audit.problems() == []


def test_it_tries_again_later_and_later_then_gives_up_and_can_be_sent_again(target, receiver, noon):
    receiver.answer = 500
    told(target, person())
    waited = []
    for number, seconds in enumerate((*hooks.WAITS, None), 1):
        assert hooks.send_due() == ({"waiting": 1} if seconds else {"gave_up": 1})
        one = WebhookDelivery.objects.get()
        assert (one.tries, one.status, one.error) == (number, 500, "Thanks a lot")
        assert hooks.send_due() == {}
        if seconds:
            noon.shift(timedelta(seconds=seconds - 1))
            assert hooks.send_due() == {}
            noon.shift(timedelta(seconds=1))
            waited.append(seconds)
    assert len(receiver.heard) == len(hooks.WAITS) + 1
    assert {heard["X-Lifecycle-Delivery"] for heard, _body in receiver.heard} == {str(one.number)}
    receiver.answer = 204
    assert hooks.send_again(deliveries=WebhookDelivery.objects.all()) == 1
    assert hooks.send_due() == {"delivered": 1}
    with pytest.raises(Conflict, match="Nothing was given up here"):
        hooks.send_again(deliveries=WebhookDelivery.objects.all())
    assert audit.problems() == []


def test_it_gives_up_at_once_when_the_address_says_that_it_is_gone(target, receiver):
    receiver.answer = 410
    told(target, person())
    assert hooks.send_due() == {"gave_up": 1}
    assert stands() == [("gave_up", 1, 410)]


def test_it_follows_no_redirect(target, receiver):
    receiver.answer = 302
    told(target, person())
    assert hooks.send_due() == {"waiting": 1}
    assert stands() == [("waiting", 1, 302)]
    assert len(receiver.heard) == 1


def test_it_reads_no_more_of_an_answer_than_it_keeps(target, receiver):
    def endless(ear: Ear) -> None:
        ear.send_response(200)
        ear.end_headers()
        try:
            for _n in range(2000):
                ear.wfile.write(b"x" * 65536)
        except OSError:
            receiver.answer = "cut"

    receiver.answer = endless
    told(target, person())
    began = time.monotonic()
    assert hooks.send_due() == {"delivered": 1}
    assert time.monotonic() - began < 2


def test_who_drips_its_answer_is_cut_off_and_left_alone_for_a_while(target, receiver, monkeypatch, noon):
    def drips(ear: Ear) -> None:
        for letter in b"HTTP/1.1 200 OK\r\n" * 50:
            try:
                ear.wfile.write(bytes([letter]))
            except OSError:
                return
            time.sleep(0.02)

    receiver.answer = drips
    monkeypatch.setattr(hooks, "SECONDS", 0.3)
    told(target, person(), person())
    began = time.monotonic()
    assert hooks.send_due() == {"waiting": 1}
    assert time.monotonic() - began < 2
    # The other one was given back, not tried.
    assert sorted(stands()) == [("waiting", 0, None), ("waiting", 1, None)]
    assert hooks.send_due() == {}
    receiver.answer = 200
    noon.shift(timedelta(seconds=hooks.QUIET + 1))
    assert hooks.send_due() == {"delivered": 2}


def test_what_a_killed_sender_had_taken_is_told_again_with_the_same_number(target, receiver, noon):
    told(target, person())
    assert hooks._claim("somebody who dies") == 1
    assert hooks.send_due() == {}
    noon.shift(timedelta(seconds=hooks.LEASE + 1))
    assert hooks.send_due() == {"delivered": 1}
    assert stands() == [("delivered", 2, 200)]
    # The dead one wakes up: what it says does not count any more.
    one = WebhookDelivery.objects.get()
    hooks._give_back(one, "somebody who dies")
    assert stands() == [("delivered", 2, 200)]


@pytest.mark.parametrize("why", ["hold", "paused", "off"])
def test_nothing_is_told_while_everything_is_stopped_the_journey_is_paused_or_it_is_switched_off(target, receiver, why):
    made = told(target, person())
    if why == "hold":
        limits.hold(reason="A backup was restored")
    elif why == "paused":
        publishing.pause(journey=made)
    else:
        hooks.change(target=target, name="Warehouse", url=target.url, is_active=False)
    assert hooks.send_due() == {}
    assert receiver.heard == []


def test_what_waits_is_withdrawn_with_the_journey_and_the_night(target, receiver):
    anna, bo = person(), person()
    made = told(target, anna, bo)
    night = made.created_at.date()
    JourneyRun.objects.update(night=night)
    WebhookDelivery.objects.filter(customer=anna).update(state="delivered", due_at=None, settled_at=made.created_at)
    assert publishing.undo_night(business_date=night) == {"taken_out": 1, "gone_on": 1}
    assert [state for state, *_rest in stands()] == ["delivered", "withdrawn"]
    publishing.end(journey=made)
    assert hooks.send_due() == {}


PRIVATE = (
    "https://127.0.0.1/", "https://localhost/", "https://localhost./", "https://2130706433/", "https://0x7f.1/",
    "https://0177.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:a9fe:a9fe]/",
    "https://169.254.169.254/latest/meta-data/", "https://10.0.0.8/", "https://192.168.1.1/", "https://0.0.0.0/",
    "https://[fd00::1]/", "https://[fe80::1]/", "https://100.64.0.1/", "https://93.184.216.34:6379/",
    "http://93.184.216.34/",
)  # fmt: skip


@pytest.mark.parametrize("url", PRIVATE)
def test_it_refuses_machines_of_our_own_network_when_the_address_is_saved_and_when_it_is_used(url, receiver, target):
    with pytest.raises(InvalidInput) as refused:
        hooks.create(name="Inside", url=url)
    assert refused.value.code == "not_public"
    assert WebhookTarget.objects.count() == 1
    WebhookTarget.objects.update(url=url)
    told(target, person())
    assert hooks.send_due() == {"waiting": 1}
    assert receiver.heard == []


@pytest.mark.parametrize(
    "url",
    ["", "ftp://shop.example/", "https:///x", "https://user:pw@93.184.216.34/", "https://shop.example:99999/",
     "https://no-such-name.invalid/", "https://93.184.216.34/#x", "javascript:alert(1)", f"https://93.184.216.34/{'x' * 500}"],
)  # fmt: skip
def test_it_refuses_what_is_no_address(url):
    with pytest.raises(InvalidInput) as refused:
        hooks.create(name="Nowhere", url=url)
    assert refused.value.code == "no_address"


def test_a_name_that_answers_differently_a_second_time_gains_nothing(target, receiver, monkeypatch):
    answers = [[("93.184.216.34", 443)], [("127.0.0.1", 443)]]
    asked: list[str] = []

    def resolver(name, port, *_more, **_named):
        asked.append(name)
        where = answers[min(len(asked), 2) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", one) for one in where]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    hooks.change(target=target, name="Rebinds", url="https://rebinds.example/x", is_active=True)
    place = hooks.place_of
    with pytest.raises(outward.NotPublic):
        place("https://rebinds.example/x")
    told(target, person())
    assert hooks.send_due() == {"waiting": 1}
    assert receiver.heard == []
    # One look for one use: whom a name is looked up for is whom is spoken to, whatever it says afterwards.
    asked.clear()
    answers[0] = [("127.0.0.1", receiver.server_port)]
    place = hooks.place_of(receiver.url)
    assert hooks.posting.post(place, body=b"{}", headers={}).status == 200
    assert len(asked) == 1


def test_it_says_in_words_what_it_does_what_is_wrong_and_a_try_tells_nobody(target, receiver):
    step = {"id": "s1", "do": "webhook", "target": target.key, "fields": ["email", "stage"]}
    assert words.step(step) == "Tells “Warehouse” about them, with: E-mail, Stage"
    assert words.step({**step, "fields": []}) == "Tells “Warehouse” about them, by their number only"
    for change, sentence in (
        ({"target": "x"}, "Choose the webhook that is told."),
        ({"fields": ["password"]}, "Choose what the webhook is told from the list."),
        ({"url": "https://x"}, "This step does not know url."),
    ):
        _plan, problems = reading.read({"trigger": {"on": "order"}, "steps": [{**step, **change}]})
        assert [one.sentence for one in problems] == [sentence]
    made = live_journey([step])
    assert [one.outcome for one in trying.attempt(journey=made, customer=person()).steps] == ["webhook", "left"]
    assert not WebhookDelivery.objects.exists()


def test_an_admin_adds_an_address_and_a_marketer_sees_no_secret(client, receiver):
    client.force_login(UserFactory(role="admin"))
    answer = client.post(reverse("campaigns:hook-new"), {"name": "Warehouse", "url": "https://10.0.0.1/"})
    assert answer.status_code == 422
    assert "leads into your own network" in answer.content.decode()
    at = client.post(reverse("campaigns:hook-new"), {"name": "Warehouse", "url": receiver.url}).url
    made = WebhookTarget.objects.get()
    assert (made.key, at) == ("warehouse", reverse("campaigns:hook", args=[made.pk]))
    assert made.secret in client.get(at).content.decode()
    client.post(f"{at}renew/")
    assert WebhookTarget.objects.get().secret != made.secret
    client.post(at, {"name": "Store", "url": receiver.url, "is_active": "on"})
    made.refresh_from_db()
    assert (made.name, made.is_active) == ("Store", True)
    receiver.answer = 410
    told(made, person(name="Anna Berg"))
    hooks.send_due()
    client.force_login(UserFactory(role="marketer"))
    page = client.get(at).content.decode()
    for said in ("Gave up", "410", "Thanks a lot", "Anna Berg", "Send again"):
        assert said in page
    for hidden in (made.secret, "shop=1"):
        assert hidden not in page
    for path in ("renew/", ""):
        assert client.post(f"{at}{path}").status_code == 403
    assert client.get(reverse("campaigns:hook-new")).status_code == 403
    receiver.answer = 200
    client.post(f"{at}again/", {"delivery": WebhookDelivery.objects.get().pk})
    assert hooks.send_due() == {"delivered": 1}
    results = client.get(reverse("campaigns:journey-results", args=[Journey.objects.get().pk])).content.decode()
    assert "Waiting: 0, delivered: 1, given up: 0" in results
    client.force_login(UserFactory(role="viewer"))
    assert "Anna" not in client.get(at).content.decode()
    assert client.post(f"{at}again/").status_code == 403
    assert client.get(reverse("campaigns:hooks")).status_code == 200


def test_a_key_lists_deliveries_and_sends_again_with_its_scope(target, receiver):
    receiver.answer = 410
    told(target, person())
    assert caller("campaigns:*").get("/api/v1/webhook-deliveries/").status_code == 403
    reader, writer = caller("webhooks:read"), caller("webhooks:write")
    [one] = reader.get("/api/v1/webhook-deliveries/", {"target": "warehouse", "state": "waiting"}).json()["results"]
    assert (one["target"], one["fields"], one["tries"]) == ("warehouse", [], 0)
    at = f"/api/v1/webhook-deliveries/{one['id']}/"
    assert writer.post(f"{at}again/").status_code == 409
    hooks.send_due()
    assert reader.post(f"{at}again/").status_code == 403
    assert writer.post(f"{at}again/").json()["state"] == "waiting"
