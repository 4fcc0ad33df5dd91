"""Texts of SMS: their parts against known cases, and the pages and the API where they are written."""

from __future__ import annotations

import json

import pytest
from django.urls import reverse

from campaigns import audience, checks, letters, outbox, parts, planning, texting, texts, trials
from campaigns.errors import BrokenTemplate, NotNow
from campaigns.experiments import asking
from campaigns.models import Campaign, Message, Run, Template, TrialMessage
from lifecycle_crm.lib.errors import InvalidInput
from tests.campaigns.factories import (
    CampaignFactory,
    TemplateFactory,
    VariantFactory,
    agree,
    live_journey,
    person,
    reachable,
    sms_campaign,
)
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]


# --- Parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "encoding", "units", "n"),
    [
        ("", "GSM-7", 0, 1),
        ("a" * 160, "GSM-7", 160, 1),
        ("a" * 161, "GSM-7", 161, 2),
        ("a" * 306, "GSM-7", 306, 2),
        ("a" * 307, "GSM-7", 307, 3),
        ("a" * 1530, "GSM-7", 1530, 10),
        ("a" * 1531, "GSM-7", 1531, 11),
        ("€" * 80, "GSM-7", 160, 1),
        ("€" * 81, "GSM-7", 162, 2),
        # A euro sign is not cut in two: one place of the first part stays empty.
        ("a" * 152 + "€" + "a" * 152, "GSM-7", 306, 3),
        ("a" * 151 + "€" + "a" * 153, "GSM-7", 306, 2),
        ("{}[]~|\\^", "GSM-7", 16, 1),
        ("åäöÅÄÖæøÆØéüß@£$", "GSM-7", 16, 1),
        ("ΔΦΓΛΩΠΨΣΘΞ", "GSM-7", 10, 1),
        ("line\nline", "GSM-7", 9, 1),
        ("ł" * 70, "UCS-2", 70, 1),
        ("ł" * 71, "UCS-2", 71, 2),
        ("ł" * 134, "UCS-2", 134, 2),
        ("ł" * 135, "UCS-2", 135, 3),
        ("ě" + "€" * 69, "UCS-2", 70, 1),
        ("🎉" * 35, "UCS-2", 70, 1),
        ("🎉" * 36, "UCS-2", 72, 2),
        # Neither is a pair of surrogates.
        ("a" * 66 + "🎉" + "a" * 66, "UCS-2", 134, 3),
        ("’", "UCS-2", 1, 1),
        ("ç", "UCS-2", 1, 1),
        ("Ç", "GSM-7", 1, 1),
    ],
)
def test_it_counts_parts_as_networks_do(text, encoding, units, n):
    measured = parts.measure(text)
    assert (measured.encoding, measured.units, measured.parts) == (encoding, units, n)


def test_it_names_what_forces_the_larger_alphabet():
    assert parts.measure("Cześć – dziś “−20 %”").forced_by == ("ś", "ć", "–", "“", "−", "”")
    assert parts.measure("plain").forced_by == ()


def test_the_way_out_never_changes_the_alphabet():
    for words in (*texting.REPLY.values(), *texting.LINK.values()):
        assert parts.measure(words.replace("{url}", "")).encoding == "GSM-7"
    assert parts.measure(letters.links.short_example()).encoding == "GSM-7"


# --- What a text may be -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "blocks", "sentence"),
    [
        ("Hello", texting.stored("Hi"), "An SMS has no subject. Leave it out."),
        ("", texting.stored("Hi") * 2, "An SMS is one text: one block of type “text” that is always shown."),
        ("", [{"type": "heading", "text": "Hi"}], "An SMS is one text: one block of type “text” that is always shown."),
        (
            "",
            [{"type": "text", "text": "Hi", "when": {"value": "points", "op": "more", "than": 1}}],
            "An SMS is one text",
        ),
        ("", texting.stored("Hi <b>you</b>"), "An SMS is plain words: take “<b>” out."),
        ("", texting.stored("Fish &amp; chips"), "An SMS is plain words: take “&amp;” out."),
        ("", texting.stored("  "), "Block 1 (text) is empty."),
        ("", texting.stored("a" * 1600), "This text takes 11 parts; an SMS has at most 10. Shorten it."),
        ("", texting.stored("a" * 6000), "This text has 6000 characters; at most 5000 are allowed."),
        ("", texting.stored("Hi {{ customer.name"), "The text has a mistake"),
        ("", texting.stored("{{ customer.name | shout }}"), "The text: unknown filter 'shout'"),
    ],
)
def test_it_refuses_what_is_no_sms_in_one_sentence_at_both_doors(client, subject, blocks, sentence):
    template = TemplateFactory(channel="sms")
    with pytest.raises(BrokenTemplate) as refused:
        texts.write(template=template, language="en", subject=subject, blocks=blocks)
    assert refused.value.message.startswith(sentence)
    client.force_login(UserFactory(role="marketer"))
    answer = client.post(
        f"/api/v1/templates/{template.pk}/versions/",
        json.dumps({"language": "en", "subject": subject, "blocks": blocks}), "application/json",
    )  # fmt: skip
    assert answer.status_code == 422
    assert answer.json()["title"].startswith(sentence)
    assert not template.variants.exists()


def test_it_keeps_a_text_plain_and_puts_data_in_as_it_is():
    template = TemplateFactory(channel="sms")
    made = texts.write(
        template=template, language="en", subject="",
        blocks=texting.stored("Hi {{ customer.name }} & co: {{ shop.url }}/x?a=1&b=2."),
    )  # fmt: skip
    customer = person(name="<Anna> & Söner")
    shown = letters.shown(variant=made, customer=customer)
    assert shown.text.startswith("Hi <Anna> & Söner & co: http://127.0.0.1:8000/x?a=1&b=2.\nStop: http")
    assert (shown.subject, shown.html) == ("", "")


@pytest.mark.parametrize(
    ("language", "by_reply", "by_link"),
    [
        ("en", "Stop? Reply STOP", "Stop: "), ("sv", "Avsluta? Svara STOPP", "Avsluta: "),
        ("nb", "Avslutte? Svar STOPP", "Avslutt: "), ("pl", "Rezygnacja? Odpisz STOP", "Stop SMS: "),
        ("cs", "Odhlasit? Odpovezte STOP", "Stop SMS: "),
    ],
)  # fmt: skip
def test_it_says_how_to_stop_in_their_language(settings, texts, language, by_reply, by_link):
    template = TemplateFactory(channel="sms")
    variant = VariantFactory(template=template, language=language, subject="", blocks=texting.stored("Hi"))
    customer = person(language=language)
    assert letters.shown(variant=variant, customer=customer).text.startswith(f"Hi\n{by_link}http")
    settings.SMS = {**texts.options, "sender": "+46701234567"}
    # Nobody would hear an answer yet.
    assert letters.shown(variant=variant, customer=customer).text.startswith(f"Hi\n{by_link}http")
    settings.SMS_WEBHOOK_SECRET = "x" * 20
    assert letters.shown(variant=variant, customer=customer).text == f"Hi\n{by_reply}"


def test_a_service_notice_has_no_way_out():
    template = TemplateFactory(channel="sms", purpose="service")
    variant = VariantFactory(template=template, subject="", blocks=texting.stored("Ready at https://shop.example/o/1"))
    assert letters.shown(variant=variant, customer=person()).text == "Ready at https://shop.example/o/1"


# --- Written on the pages ------------------------------------------------------------------------------------------------


def test_a_marketer_writes_an_sms_sees_its_parts_and_saves_it(marketer):
    customer = person(name="Łucja Nowak", given_name="Łucja", phone="+48500000000")
    made = marketer.post(
        reverse("campaigns:template-new"), {"name": "Flash", "purpose": "marketing", "channel": "sms", "language": "en"}
    )
    template = Template.objects.get(channel="sms")
    assert (template.channel, made.status_code) == ("sms", 302)
    editor = reverse("campaigns:template", args=[template.key, "en"])
    page = marketer.get(editor).content.decode()
    assert "id_text" in page
    assert "id_subject" not in page
    wrong = marketer.post(editor, {"do": "words", "revision": 0, "text": "Hi <i>you</i>"})
    assert (wrong.status_code, "take “&lt;i&gt;” out" in wrong.content.decode()) == (422, True)
    marketer.post(editor, {"do": "words", "revision": 0, "text": "Hi {{ customer.given_name | default: 'friend' }}!"})
    page = marketer.get(f"{editor}?customer={customer.pk}").content.decode()
    assert "Hi Łucja!" in page
    assert "Not in the alphabet of SMS: Ł." in page
    assert "Takes 1 part (" in page
    assert "No SMS provider is set up, so no test can be sent." in page
    assert "<iframe" not in page
    marketer.post(editor, {"do": "save", "revision": 1})
    [variant] = template.variants.all()
    assert (variant.subject, variant.blocks) == (
        "", [{"type": "text", "text": "Hi {{ customer.given_name | default: 'friend' }}!"}]
    )  # fmt: skip
    assert marketer.get(reverse("campaigns:template-versions", args=[template.key, "en"])).status_code == 200
    address = reverse("campaigns:template-preview", args=[template.key, "en"])
    assert marketer.get(f"{address}?customer={customer.pk}").status_code == 404


def test_the_api_makes_checks_and_renders_an_sms(client):
    client.force_login(UserFactory(role="owner"))
    made = client.post("/api/v1/templates/", {"name": "Flash", "channel": "sms"}, "application/json").json()
    assert made["channel"] == "sms"
    address = f"/api/v1/templates/{made['id']}"
    body = {"language": "en", "blocks": texting.stored("Sale — today")}
    found = client.post(f"{address}/check/", {**body, "subject": ""}, "application/json").json()["findings"]
    assert [(one["level"], one["code"], one["block"]) for one in found[:2]] == [
        ("warn", "alphabet", -2),
        ("info", "parts", None),
    ]
    assert client.post(f"{address}/versions/", body, "application/json").status_code == 201
    shown = client.get(f"{address}/render/", {"customer": person(phone="+46700000000").pk}).json()
    assert (shown["subject"], shown["html"], shown["encoding"], shown["parts"]) == ("", "", "UCS-2", 1)
    refused = client.patch(f"{address}/", {"channel": "email"}, "application/json")
    assert refused.status_code == 409
    assert refused.json()["title"].startswith("“Flash” has words already")
    assert client.get("/api/v1/templates/", {"channel": "sms"}).json()["results"][0]["id"] == made["id"]
    empty = TemplateFactory()
    assert (
        client.patch(f"/api/v1/templates/{empty.pk}/", {"channel": "sms"}, "application/json").json()["channel"]
        == "sms"
    )


def test_it_checks_the_links_of_plain_words():
    template = TemplateFactory(channel="sms")
    found = checks.find(template=template, subject="", blocks=texting.stored("http://10.0.0.1/x now"), language="en")
    assert [(one.level, one.code, one.where) for one in found] == [("warn", "link", "Text"), ("info", "parts", "")]
    [empty] = checks.find(template=template, subject="", blocks=[], language="en")
    assert (empty.level, empty.text, empty.where) == ("bad", "Write the text.", "Text")


# --- Trials --------------------------------------------------------------------------------------------------------------


def test_it_sends_a_trial_to_a_telephone(texts, marketer):
    template = sms_campaign("Hi {{ customer.given_name }}").template
    customer = person(given_name="Eva", phone="+46700000000")
    address = reverse("campaigns:template-test", args=[template.key, "en"])
    marketer.post(address, {"customer": customer.pk, "phone": "0046 70-123 45 67"})
    [sent] = texts.messages
    assert (sent.to, sent.text.startswith("Hi Eva\nStop: "), sent.report) == ("+46701234567", True, "")
    row = TrialMessage.objects.get()
    assert (row.sent_to, row.state, row.transport, row.error) == ("+46701234567", "sent", "sms", "s1")
    assert not Message.objects.exists()


def test_it_refuses_a_trial_to_what_is_no_telephone_and_without_a_provider(texts, settings):
    variant = sms_campaign().template.variants.get()
    who = {"variant": variant, "customer": person(), "user": UserFactory()}
    with pytest.raises(InvalidInput, match="is not an international phone number"):
        trials.send(**who, phone="12345")
    texts.on_message = (400, "Invalid to number", {})
    with pytest.raises(trials.NotSent, match="400 Invalid to number"):
        trials.send(**who, phone="+46701234567")
    settings.SMS = {"kind": ""}
    with pytest.raises(NotNow, match="No SMS provider is set up"):
        trials.send(**who, phone="+46701234567")
    assert [one.state for one in TrialMessage.objects.all()] == ["failed"]


# --- Used ----------------------------------------------------------------------------------------------------------------


def test_a_campaign_is_sent_the_way_its_text_is_and_says_what_it_would_cost(texts, marketer):
    template = sms_campaign("x" * 200).template
    Campaign.objects.all().delete()
    reachable(3)
    marketer.post(
        reverse("campaigns:new"), {"name": "Flash", "template": template.pk, "stages": ["retain"], "holdout_percent": 0}
    )
    campaign = Campaign.objects.get()
    assert (campaign.channel, campaign.state) == ("sms", "draft")
    page = marketer.get(reverse("campaigns:detail", args=[campaign.pk])).content.decode()
    assert "About 6 parts of SMS would be paid." in page
    assert "times everybody to whom it would go" in page
    assert (seen := audience.forecast(campaign)).parts == 6
    assert seen.parts_of == 3
    run = audience.send(campaign=campaign)
    assert outbox.send_due() == {"sent": 3}
    page = marketer.get(reverse("campaigns:detail", args=[campaign.pk])).content.decode()
    assert "6 parts of SMS were handed over." in page
    assert ">Opened<" not in page
    message = Message.objects.filter(run=run).first()
    page = marketer.get(reverse("campaigns:message", args=[message.pk])).content.decode()
    assert "Sent: the SMS provider took it." in page
    assert "xxxx" in page
    assert marketer.get(reverse("campaigns:message-html", args=[message.pk])).status_code == 404


def test_it_starts_nothing_without_a_provider_and_says_what_to_set(settings, marketer):
    settings.SMS = {"kind": ""}
    reachable(1)
    campaign = sms_campaign(state="draft")
    page = marketer.get(reverse("campaigns:detail", args=[campaign.pk])).content.decode()
    assert "No SMS can be sent yet" in page
    with pytest.raises(NotNow, match="Set SMS_URL to your account with one"):
        audience.send(campaign=campaign)
    assert not Run.objects.exists()
    campaign.refresh_from_db()
    assert campaign.state == "draft"
    with pytest.raises(NotNow, match="Set SMS_URL"):
        live_journey([{"id": "s1", "do": "message", "template": campaign.template.key}])


def test_a_journey_sends_an_sms_in_its_message_step(texts):
    template = sms_campaign("Welcome").template
    journey = live_journey([{"id": "s1", "do": "message", "template": template.key}])
    [campaign] = journey.campaigns.all()
    assert campaign.channel == "sms"


def test_an_experiment_compares_texts_of_one_channel():
    campaign = CampaignFactory(state="draft")
    wanted = [asking.Wanted(50), asking.Wanted(50, template=sms_campaign().template)]
    with pytest.raises(InvalidInput, match="Both texts need the same channel"):
        asking.create(campaign=campaign, name="Which", versions=wanted)
    assert not campaign.experiments.exists()


def test_it_speaks_their_language_and_falls_back(texts):
    campaign = sms_campaign("Hello")
    VariantFactory(template=campaign.template, language="sv", subject="", blocks=texting.stored("Hej"))
    made = [person(agrees=None, language=code, phone=f"+4670000000{n}") for n, code in enumerate(("sv", "pl"))]
    for one in made:
        agree(one, channel="sms")
    planning.plan(campaign=campaign, run_key="t", audience=[one.pk for one in made], as_of=letters.clock.now())
    outbox.send_due()
    assert {one.to: one.text.partition("\n")[0] for one in texts.messages} == {
        "+46700000000": "Hej", "+46700000001": "Hello"
    }  # fmt: skip
