"""Templates over REST: the same verbs, the same refusals."""

from __future__ import annotations

import pytest

from campaigns import letters, texts
from campaigns.models import Template, TemplateVariant
from tests.api.factories import caller
from tests.campaigns.factories import CampaignFactory, VariantFactory, person
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]
URL = "/api/v1/templates/"
HELLO = [{"type": "text", "text": "Hello {{ customer.given_name | default: 'friend' }}"}]


@pytest.fixture
def writer():
    return caller("campaigns:write", "customers:read")


def test_it_makes_writes_reads_and_renders(writer):
    who = person(given_name="Åsa", language="sv")
    made = writer.post(URL, {"name": "Spring news"}, format="json")
    assert (made.status_code, made.json()["key"], made.json()["purpose"]) == (201, "spring-news", "marketing")
    at = f"{URL}{made.json()['id']}/"
    body = {"language": "en", "subject": "Spring", "blocks": HELLO, "note": "first", "base": 0}
    first = writer.post(f"{at}versions/", body, format="json")
    assert (first.status_code, first.json()["version"], first.json()["blocks"]) == (201, 1, HELLO)
    late = writer.post(f"{at}versions/", {**body, "subject": "Other"}, format="json")
    assert (late.status_code, late.json()["code"]) == (409, "changed_meanwhile")
    assert TemplateVariant.objects.filter(template__key="spring-news").count() == 1
    writer.post(f"{at}versions/", {**body, "subject": "Spring 2", "base": 1}, format="json")
    read = writer.get(at).json()
    assert (read["languages"], [one["subject"] for one in read["texts"]]) == (["en"], ["Spring 2"])
    listed = writer.get(f"{at}versions/", {"language": "en"}).json()["results"]
    assert [one["version"] for one in listed] == [2, 1]
    seen = writer.get(f"{at}render/", {"customer": who.pk}).json()
    assert (seen["language"], seen["version"], seen["subject"]) == ("en", 2, "Spring 2")
    shown = letters.shown(variant=texts.newest(texts.get("spring-news"), "en"), customer=who)
    assert (seen["html"], seen["text"]) == (shown.html, shown.text)
    old = writer.get(f"{at}render/", {"customer": who.pk, "language": "en", "version": 1}).json()
    assert old["subject"] == "Spring"
    assert writer.get(f"{at}render/", {"customer": who.pk, "language": "pl"}).status_code == 404
    assert writer.get(f"{at}render/").status_code == 422
    assert writer.get(f"{at}render/", {"customer": 10**12}).status_code == 404


def test_it_refuses_a_text_with_block_line_and_column(writer):
    template = VariantFactory().template
    bad = [*HELLO, {"type": "text", "text": "a\n{{ points | nofilter }}"}]
    body = {"language": "en", "subject": "S", "blocks": bad}
    answer = writer.post(f"{URL}{template.pk}/versions/", body, format="json")
    assert (answer.status_code, answer.json()["code"]) == (422, "broken_template")
    details = answer.json()["details"]
    assert (details["block"], details["line"], details["column"]) == (1, 2, 13)
    assert template.variants.count() == 1
    for blocks in (
        [],
        {},
        "x",
        [1],
        [{"type": "script", "text": "x"}],
        [{"type": "text", "text": 1}],
        [{"type": ["text"]}],
    ):
        answer = writer.post(f"{URL}{template.pk}/versions/", {**body, "blocks": blocks}, format="json")
        assert answer.status_code == 422, blocks
    assert template.variants.count() == 1


def test_it_checks_without_writing(writer):
    who = person()
    template = VariantFactory().template
    at = f"{URL}{template.pk}/check/"
    found = writer.post(at, {"language": "en", "customer": who.pk}, format="json").json()["findings"]
    assert {one["code"] for one in found} == {"missing_sv", "missing_nb", "missing_pl", "missing_cs"}
    bad = {
        "language": "en",
        "subject": "S",
        "blocks": [{"type": "button", "text": "x", "url": "http://shop.example"}, 7],
    }
    found = writer.post(at, bad, format="json").json()["findings"]
    assert [(one["level"], one["code"], one["block"]) for one in found[:2]] == [
        ("bad", "block", 1),
        ("warn", "link", 0),
    ]
    assert template.variants.count() == 1


def test_it_renames_and_archives(writer):
    used = CampaignFactory(kind="reactivation").template
    free = VariantFactory().template
    answer = writer.patch(f"{URL}{used.pk}/", {"archived": True}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    answer = writer.patch(f"{URL}{free.pk}/", {"archived": True, "name": "Old"}, format="json")
    assert (answer.status_code, answer.json()["name"], answer.json()["archived_at"] is None) == (200, "Old", False)
    listed = [one["id"] for one in writer.get(URL, {"archived": "true"}).json()["results"]]
    assert listed == [free.pk]
    assert free.pk not in [one["id"] for one in writer.get(URL, {"archived": "false"}).json()["results"]]
    body = {"name": "X", "template": free.key, "audience": {"fact": "stage", "op": "in", "value": ["retain"]}}
    assert writer.post("/api/v1/campaigns/", body, format="json").status_code == 422


def test_each_door_asks_for_its_right():
    who = person()
    template = VariantFactory().template
    at = f"{URL}{template.pk}/"
    reader, writer = caller("campaigns:read"), caller("campaigns:write")
    body = {"language": "en", "subject": "S", "blocks": HELLO}
    assert reader.get(at).status_code == 200
    for answer in (
        reader.post(URL, {"name": "X"}, format="json"),
        reader.post(f"{at}versions/", body, format="json"),
        reader.patch(at, {"archived": True}, format="json"),
        reader.get(f"{at}render/", {"customer": who.pk}),
        writer.get(f"{at}render/", {"customer": who.pk}),
        writer.post(f"{at}check/", {"language": "en", "customer": who.pk}, format="json"),
    ):
        assert answer.status_code == 403
    assert Template.objects.filter(name="X").count() == 0
    assert template.variants.count() == 1


@pytest.mark.parametrize("role", ["support", "viewer"])
def test_who_may_not_steer_writes_nothing_through_the_api_either(client, role):
    who = person()
    template = VariantFactory().template
    client.force_login(UserFactory(role=role))
    at = f"{URL}{template.pk}/"
    body = {"language": "en", "subject": "S", "blocks": HELLO}
    for address, sent in ((URL, {"name": "X"}), (f"{at}versions/", body)):
        assert client.post(address, sent, content_type="application/json").status_code == 403
    assert client.patch(at, {"archived": True}, content_type="application/json").status_code == 403
    assert client.get(f"{at}render/", {"customer": who.pk}).status_code == (200 if role == "support" else 403)
    assert template.variants.count() == 1
