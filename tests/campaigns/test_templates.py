"""Templates through the pages: made, written block by block, saved as versions, looked at as somebody."""

from __future__ import annotations

import json

import pytest
from django.urls import reverse

from campaigns import blocks, letters, outbox, planning, texts
from campaigns.errors import BrokenTemplate, NotNow
from campaigns.models import Campaign, Message, Template, TemplateDraft, TemplateVariant
from customers.models import CustomerFacts
from lifecycle_crm.lib import clock
from tests.campaigns.factories import (
    CampaignFactory,
    TemplateFactory,
    VariantFactory,
    people,
    person,
    planned,
)
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]


def editor(template: Template, language: str = "en") -> str:
    return reverse("campaigns:template", args=[template.key, language])


def press(client, template: Template, do: str, language: str = "en", **more):
    revision = texts.current(template, language).revision
    return client.post(editor(template, language), {"do": do, "revision": revision, **more})


def page(client, address: str) -> str:
    return client.get(address).content.decode()


HELLO = [{"type": "heading", "text": "Hello"}, {"type": "text", "text": "One."}, {"type": "divider"}]


def test_it_writes_a_template_from_nothing_with_plain_forms(marketer):
    who = person(given_name="Åsa", facts={"points": 7})
    made = marketer.post(
        reverse("campaigns:template-new"),
        {"name": "News", "purpose": "marketing", "channel": "email", "language": "en"},
    )
    template = Template.objects.get(name="News")
    assert (template.key, made.url) == ("news", editor(template))
    assert "No subject yet" in page(marketer, made.url)
    press(marketer, template, "subject", subject="Hello")
    for kind, fields in (
        ("heading", {"text": "Hello {{ customer.given_name | default: 'friend' }}"}),
        ("text", {"text": "First.\r\n\r\nSecond."}),
        ("image", {"text": "A red bicycle", "url": "https://shop.example/b.png", "link": "https://shop.example/b"}),
        ("columns", {"left": "L", "right": "R", "left_image": "https://shop.example/l.png", "left_alt": "Left one"}),
        ("points", {"text": "points", "when_value": "points", "when_op": "more", "when_than": "0"}),
        ("button", {"text": "Go", "url": "https://shop.example/"}),
    ):
        at = len(texts.current(template, "en").blocks)
        answer = press(marketer, template, "block", kind=kind, new=1, place=at, **fields)
        assert answer.url == f"{editor(template)}#block-{at}", answer.content.decode()
    press(marketer, template, "divider:0")
    assert TemplateVariant.objects.filter(template=template).count() == 0

    looked = page(marketer, editor(template))
    assert "As " in looked
    assert "first name, or “friend”" in looked
    assert "Only if: points is more than 0" in looked
    press(marketer, template, "save", note="Autumn")
    saved = TemplateVariant.objects.get(template=template)
    assert (saved.version, saved.note, saved.created_by) == (1, "Autumn", marketer.user)
    assert not TemplateDraft.objects.exists()
    assert [one["type"] for one in saved.blocks] == [
        "divider", "heading", "text", "image", "columns", "points", "button",
    ]  # fmt: skip
    assert saved.blocks[2]["text"] == "First.\n\nSecond."
    assert saved.blocks[5]["when"] == {"value": "points", "op": "more", "than": 0}
    shown = letters.shown(variant=saved, customer=who)
    assert shown.text.startswith(
        "--------\n\nHello Åsa\n\nFirst.\n\nSecond.\n\n[A red bicycle] (https://shop.example/b)\n\n[Left one]\nL\n\nR\n\n"
        "7 points\n\nGo: https://shop.example/\n\n-- \n"
    )
    assert '<img src="https://shop.example/b.png" alt="A red bicycle" width="496"' in shown.html


def test_it_moves_doubles_removes_and_takes_back_by_button(marketer):
    template = VariantFactory(blocks=HELLO).template
    words = lambda: [one.get("text", one["type"]) for one in texts.current(template, "en").blocks]  # noqa: E731
    answer = press(marketer, template, "down:0")
    assert answer.url.endswith("#block-1")
    assert words() == ["One.", "Hello", "divider"]
    press(marketer, template, "up:2")
    assert words() == ["One.", "divider", "Hello"]
    press(marketer, template, "double:0")
    assert words() == ["One.", "One.", "divider", "Hello"]
    press(marketer, template, "remove:3")
    assert words() == ["One.", "One.", "divider"]
    press(marketer, template, "undo")
    assert words() == ["One.", "One.", "divider", "Hello"]
    press(marketer, template, "undo")
    assert words() == ["One.", "One.", "divider"]
    press(marketer, template, "block", kind="text", place=1, text="Two.")
    assert words() == ["One.", "Two.", "divider"]
    assert texts.newest(template, "en").blocks == HELLO
    press(marketer, template, "discard")
    assert words() == ["Hello", "One.", "divider"]


def test_it_tells_the_second_of_two_who_change_the_same_words(marketer):
    template = VariantFactory(blocks=HELLO).template
    assert marketer.post(editor(template), {"do": "down:0", "revision": 0}).status_code == 302
    late = marketer.post(editor(template), {"do": "remove:0", "revision": 0})
    assert late.status_code == 409
    assert "Somebody else changed these words" in late.content.decode()
    typed = marketer.post(editor(template), {"do": "subject", "revision": 0, "subject": "Mine"})
    assert typed.status_code == 409
    assert 'value="Mine"' in typed.content.decode()
    draft = TemplateDraft.objects.get()
    assert (draft.revision, draft.blocks[0]["text"], len(draft.blocks)) == (1, "One.", 3)


def test_it_does_not_put_a_draft_over_a_version_that_its_author_has_not_seen(marketer):
    variant = VariantFactory(blocks=HELLO)
    template = variant.template
    press(marketer, template, "down:0")
    texts.write(template=template, language="en", subject="Newer", blocks=HELLO)
    refused = press(marketer, template, "save")
    assert refused.status_code == 409
    assert texts.newest(template, "en").subject == "Newer"
    assert TemplateDraft.objects.count() == 1
    assert "I looked: put mine on top" in page(marketer, editor(template))
    press(marketer, template, "carry_over")
    press(marketer, template, "save")
    assert [one.version for one in texts.versions(template, "en")] == [3, 2, 1]
    assert texts.newest(template, "en").blocks[0]["text"] == "One."


def test_a_send_that_is_planned_keeps_its_words(marketer, smtp):
    campaign = CampaignFactory(quiet_from=0, quiet_until=0)
    one, two = person(), person()
    planned([one], campaign, key="test:1")
    template = campaign.template
    press(marketer, template, "subject", subject="New words")
    press(marketer, template, "save")
    texts.archive(template=TemplateFactory())
    planning.plan(campaign=campaign, run_key="test:2", audience=[two.pk], as_of=clock.now())
    outbox.send_due()
    got = {row.customer_id: row.rendering.subject for row in Message.objects.select_related("rendering")}
    assert got == {one.pk: f"Hello {one.given_name}", two.pk: "New words"}


def test_it_goes_back_to_a_version_by_making_a_new_one(marketer):
    variant = VariantFactory(blocks=HELLO, subject="Old words")
    template = variant.template
    texts.write(
        template=template, language="en", subject="New words", blocks=[*HELLO[:1], {"type": "text", "text": "Two."}]
    )
    address = reverse("campaigns:template-versions", args=[template.key, "en"])
    looked = page(marketer, address)
    assert "<del>Old</del><ins>New</ins> words" in looked
    assert "<del>One.</del><ins>Two.</ins>" in looked
    marketer.post(address, {"version": 1})
    newest = texts.newest(template, "en")
    assert (newest.version, newest.subject, newest.blocks, newest.note) == (3, "Old words", HELLO, "Back to version 1")
    assert newest.created_by == marketer.user
    variant.refresh_from_db()
    assert variant.version == 1
    assert "Back to version 1" in page(marketer, address)
    assert marketer.post(address, {"version": 99}).status_code == 404


def test_it_lists_languages_use_and_who_edited_last(marketer, django_assert_max_num_queries):
    campaign = CampaignFactory(name="November", kind="reactivation")
    CampaignFactory(name="Last year", kind="reactivation", template=campaign.template, state="ended")
    texts.write(template=campaign.template, language="sv", subject="Hej", blocks=HELLO, actor=marketer.user)
    for _ in range(5):
        VariantFactory()
    with django_assert_max_num_queries(10):
        shown = page(marketer, reverse("campaigns:templates"))
    line = next(one for one in texts.listed() if one.template == campaign.template)
    assert line.missing == ["nb", "pl", "cs"]
    assert (line.edited_by, line.used_in) == (marketer.user, [campaign])
    assert texts.in_use(campaign.template) == [campaign]
    assert "Missing: Norwegian, Polish, Czech" in shown
    assert "November" in shown
    assert "Maja" in shown


def test_it_copies_renames_archives_and_brings_back(marketer):
    template = VariantFactory(template__name="Autumn").template
    act = reverse("campaigns:template-act", args=[template.key])
    marketer.post(act, {"do": "copy", "name": "Winter"})
    made = Template.objects.get(name="Winter")
    assert (made.key, made.variants.get().blocks, made.purpose) == (
        "winter",
        template.variants.get().blocks,
        "marketing",
    )
    assert made.variants.get().note == "Copied from Autumn"
    marketer.post(act, {"do": "rename", "name": "Late autumn"})
    marketer.post(act, {"do": "archive"})
    template.refresh_from_db()
    assert template.name == "Late autumn"
    assert template.archived_at is not None
    assert template not in texts.choosable()
    assert template not in [line.template for line in texts.listed()]
    assert "Late autumn" in page(marketer, reverse("campaigns:templates") + "?archived=1")
    marketer.post(act, {"do": "bring_back"})
    template.refresh_from_db()
    assert template.archived_at is None
    assert template in texts.choosable()


def test_it_archives_nothing_that_is_to_be_said_still_and_says_where():
    campaign = CampaignFactory(name="Win them back", kind="reactivation")
    with pytest.raises(NotNow, match="Win them back still says it"):
        texts.archive(template=campaign.template)
    sent = CampaignFactory(state="active")
    run = planned([person()], sent)
    with pytest.raises(NotNow):
        texts.archive(template=sent.template)
    run.state = "finished"
    run.save()
    assert texts.archive(template=sent.template).archived_at is not None
    assert Campaign.objects.get(pk=campaign.pk).template.archived_at is None


def test_nobody_makes_a_message_of_an_archived_template(marketer):
    template = texts.archive(template=VariantFactory().template)
    asked = {"name": "X", "template": template.pk, "stages": ["retain"], "holdout_percent": 0}
    assert marketer.post(reverse("campaigns:new"), asked).status_code == 422
    assert not Campaign.objects.filter(name="X").exists()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"kind": "heading", "text": " "}, "Block 1 (heading) is empty"),
        ({"kind": "image", "url": "https://a.example/x.png", "text": ""}, "This field is required"),
        (
            {"kind": "columns", "left": "L", "right": "R", "right_image": "https://a.example/x.png"},
            "Describe the picture for those who do not see it.",
        ),
        (
            {"kind": "text", "text": "x", "when_value": "points", "when_op": "more", "when_than": "many"},
            "Write a whole number to compare with.",
        ),
        (
            {"kind": "text", "text": "x", "when_value": "points", "when_op": "is", "when_than": "5"},
            "Numbers are more, less or exactly",
        ),
        (
            {"kind": "text", "text": "x", "when_value": "customer.tier", "when_op": "is", "when_than": "' %}{{ x }}"},
            "Write the words to compare with",
        ),
    ],
)
def test_it_says_at_the_field_what_a_block_lacks(marketer, fields, sentence):
    template = VariantFactory().template
    answer = press(marketer, template, "block", new=1, place=0, **fields)
    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert not TemplateDraft.objects.exists()


def test_it_keeps_mistakes_in_the_draft_and_out_of_versions(marketer):
    person()
    template = VariantFactory().template
    press(marketer, template, "block", kind="text", place=0, text="a\nb {{ customer.given_name | nofilter }}")
    shown = page(marketer, editor(template))
    assert "Block 1, line 2, column 28" in shown
    assert "There is no filter “nofilter”." in shown
    refused = press(marketer, template, "save")
    assert refused.status_code == 422
    assert TemplateDraft.objects.count() == 1
    assert texts.newest(template, "en").version == 1


def test_it_inserts_a_value_with_what_stands_in_for_it(marketer):
    template = VariantFactory().template
    typed = {"kind": "text", "place": 0, "text": "Hello", "insert_value": "customer.given_name"}
    refused = press(marketer, template, "insert", **typed)
    assert refused.status_code == 422
    assert "Say what stands there for people without one" in refused.content.decode()
    done = press(marketer, template, "insert", **typed, insert_fallback="friend's")
    assert "Hello {{ customer.given_name | default: &quot;friend&#x27;s&quot; }}" in done.content.decode()
    assert not TemplateDraft.objects.exists()
    assert blocks.variable("points", "") == "{{ points }}"
    with pytest.raises(BrokenTemplate):
        blocks.variable("settings", "x")


def test_it_begins_a_language_with_the_words_of_another(marketer):
    template = VariantFactory(blocks=HELLO, subject="Hi").template
    shown = page(marketer, editor(template, "pl"))
    assert "Nothing is written in Polish. People who speak it get English." in shown
    press(marketer, template, "start", "pl", other="en")
    press(marketer, template, "save", "pl")
    assert texts.newest(template, "pl").blocks == HELLO
    assert texts.falls_back_to(template, "pl") == "pl"
    assert texts.falls_back_to(template, "cs") == "en"


def test_it_shows_the_message_as_anybody_and_walks_from_one_to_the_next(marketer):
    first, second, third = person(given_name="Ada"), person(given_name="Bo"), person(given_name="Cy", agrees=None)
    CustomerFacts.objects.filter(pk__in=[first.pk, second.pk]).update(may_email=True)
    template = VariantFactory().template
    shown = marketer.get(editor(template), {"customer": first.pk, "width": 320})
    assert shown.context["made"].subject == "Hello Ada"
    assert shown.context["width"] == 320
    assert shown.context["previous"] == ""
    assert f"customer={second.pk}" in shown.context["next"]
    assert "width=320" in shown.context["next"]
    assert marketer.get(editor(template)).context["reader"] == second
    found = marketer.get(editor(template), {"find": third.email}).context["found"]
    assert [who for who, _url in found] == [third]
    assert [who for who, _url in marketer.get(editor(template), {"find": f"#{first.pk}"}).context["found"]] == [first]
    frame = marketer.get(reverse("campaigns:template-preview", args=[template.key, "en"]), {"customer": first.pk})
    assert frame.content.decode() == shown.context["made"].html
    assert frame.content.decode() == letters.shown(variant=texts.newest(template, "en"), customer=first).html


def test_its_frame_may_load_the_pictures_of_the_text_and_nothing_else(marketer):
    who = person()
    template = VariantFactory(
        blocks=[
            {"type": "image", "text": "A bicycle", "url": "https://shop.example/b.png?v=2"},
            {"type": "text", "text": "<img src=https://evil.example/x.gif>Words"},
        ]
    ).template
    answer = marketer.get(reverse("campaigns:template-preview", args=[template.key, "en"]), {"customer": who.pk})
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["img-src"] == "data: https://shop.example/b.png"
    assert policy["default-src"] == "'none'"
    assert "sandbox" in policy
    assert "script-src" not in policy
    assert "evil.example" not in answer.content.decode()


@pytest.mark.parametrize("role", ["viewer", "analyst", "support"])
def test_who_may_not_steer_looks_and_changes_nothing(client, role):
    who = person(name="Åsa Öberg", given_name="Åsa")
    template = VariantFactory(blocks=HELLO, subject="Hello {{ customer.given_name }}").template
    client.force_login(UserFactory(role=role))
    shown = page(client, editor(template))
    assert "Move block" not in shown
    assert ("Öberg" in shown) is (role == "support")
    for address, body in (
        (editor(template), {"do": "remove:0", "revision": 0}),
        (editor(template), {"do": "subject", "revision": 0, "subject": "X"}),
        (
            reverse("campaigns:template-new"),
            {"name": "X", "purpose": "marketing", "channel": "email", "language": "en"},
        ),
        (reverse("campaigns:template-act", args=[template.key]), {"do": "archive"}),
        (reverse("campaigns:template-versions", args=[template.key, "en"]), {"version": 1}),
        (reverse("campaigns:template-test", args=[template.key, "en"]), {"customer": who.pk}),
    ):
        assert client.post(address, body).status_code == 403, address
    template.refresh_from_db()
    assert template.archived_at is None
    assert not TemplateDraft.objects.exists()
    assert texts.newest(template, "en").version == 1
    frame = client.get(reverse("campaigns:template-preview", args=[template.key, "en"]), {"customer": who.pk})
    assert frame.status_code == (200 if role == "support" else 403)


def test_it_escapes_what_is_written_on_its_own_pages(marketer):
    bad = "<script>alert(1)</script>"
    people(2)
    template = VariantFactory(subject=bad, blocks=[{"type": "text", "text": bad}], template__name=bad).template
    texts.write(
        template=template, language="en", subject=f"{bad}2", blocks=[{"type": "heading", "text": bad}], note=bad
    )
    press(marketer, template, "block", kind="text", new=1, place=0, text=bad)
    for address in (
        reverse("campaigns:templates"),
        editor(template),
        f"{editor(template)}?edit=0",
        reverse("campaigns:template-versions", args=[template.key, "en"]),
    ):
        assert bad not in page(marketer, address)


def test_a_block_that_is_not_for_somebody_is_left_out():
    rich, poor = person(facts={"points": 5, "tier": "Gold"}), person()
    variant = VariantFactory(
        subject="S",
        blocks=[
            {"type": "text", "text": "Always."},
            {"type": "points", "text": "points wait", "when": {"value": "points", "op": "more", "than": 0}},
            {"type": "tier", "text": "Your level"},
            {"type": "text", "text": "Gold!", "when": {"value": "customer.tier", "op": "is", "than": "Gold"}},
            {"type": "text", "text": "New.", "when": {"value": "customer.days_since_order", "op": "unknown"}},
            {"type": "text", "text": "Late.", "when": {"value": "customer.days_since_order", "op": "more", "than": 30}},
        ],
    )
    told = lambda who: letters.shown(variant=variant, customer=who).text.partition("\n-- \n")[0].split("\n\n")  # noqa: E731
    assert [line.strip() for line in told(rich) if line.strip()] == [
        "Always.", "5 points wait", "Your level: Gold", "Gold!", "New.",
    ]  # fmt: skip
    assert [line.strip() for line in told(poor) if line.strip()] == ["Always.", "New."]


def test_a_condition_also_holds_where_blocks_share_what_one_assigned():
    who = person(facts={"points": 5})
    variant = VariantFactory(
        subject="S",
        blocks=[
            {"type": "text", "text": "{% assign a = 'x' %}A"},
            {"type": "text", "text": "{{ a }} hidden", "when": {"value": "points", "op": "less", "than": 5}},
            {"type": "text", "text": "{{ a }} shown", "when": {"value": "points", "op": "exactly", "than": 5}},
        ],
    )
    made = letters.shown(variant=variant, customer=who).text
    assert made.startswith("A\n\nx shown\n\n-- ")


@pytest.mark.parametrize(
    "raw",
    [
        {"value": "settings.SECRET_KEY", "op": "known"},
        {"value": "points", "op": "more", "than": "0 %}{{ 'x' }}{% if 1"},
        {"value": "points", "op": "more", "than": 10**13},
        {"value": "points", "op": "known"},
        {"value": "customer.tier", "op": "is", "than": "a' or '1"},
        {"value": "customer.tier", "op": "is", "than": 'a"'},
        {"value": "customer.tier", "op": "is", "than": "%}"},
        {"value": "customer.tier", "op": "is", "than": "x" * 81},
        {"value": "customer.tier", "op": "drop", "than": "x"},
        {"value": ["points"], "op": "more"},
        "points > 0",
        [1],
    ],
)
def test_a_condition_is_data_and_never_somebodys_liquid(raw):
    with pytest.raises(BrokenTemplate):
        blocks.read([{"type": "text", "text": "x", "when": raw}])


def test_its_diff_is_readable():
    new = [
        {"type": "heading", "text": "Hello there"},
        {"type": "divider"},
        {"type": "button", "text": "Go", "url": "u"},
    ]
    found = [(one.what, one.label, one.parts) for one in blocks.diff(HELLO, new)]
    assert found == [
        ("changed", "Heading", [("same", "Hello"), ("in", " there")]),
        ("removed", "Text", [("out", "One.")]),
        ("added", "Button", [("in", "Go\nu")]),
    ]
    assert json.loads(json.dumps(new)) == new


def test_it_bounds_a_text_that_is_written_and_sends_a_longer_one_that_is_there():
    who = person()
    many = [{"type": "text", "text": "x"}] * 61
    with pytest.raises(BrokenTemplate, match="at most 60 blocks"):
        texts.write(template=TemplateFactory(), language="en", subject="S", blocks=many)
    with pytest.raises(BrokenTemplate, match="at most 60 blocks"):
        blocks.doubled(many[:60], 0)
    assert letters.shown(variant=VariantFactory(blocks=many), customer=who).text.count("x\n") == 61
