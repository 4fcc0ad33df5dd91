"""What is said of a text before anybody gets it, and the test that its author sends to themselves."""

from __future__ import annotations

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.urls import reverse

from campaigns import checks, rendering, texts, trials
from campaigns.errors import BrokenTemplate, NotNow
from campaigns.models import DeliveryEvent, Hold, Link, Message, Rendering, Run, Slot, TrialMessage, Visit
from customers.models import CustomerFacts
from tests.campaigns.factories import TemplateFactory, VariantFactory, people, person
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]


@pytest.fixture
def reader():
    who = person(given_name="Åsa", city="Malmö")
    CustomerFacts.objects.filter(pk=who.pk).update(may_email=True)
    return who


def found(*blocks, reader=None, subject="Hello", purpose="marketing", language="en"):
    template = TemplateFactory(purpose=purpose)
    return checks.find(template=template, subject=subject, blocks=list(blocks), language=language, customer=reader)


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def one(*blocks, **more):
    [only] = found(*blocks, **more)
    return only


@pytest.mark.parametrize(
    ("words", "line", "column", "sentence"),
    [
        ("a\nb {{ points | nofilter }}", 2, 15, "There is no filter “nofilter”."),
        ("a\n\n{% frobnicate %}", 3, 4, "There is no tag “frobnicate” here."),
        ("{% if points > 1 %}x", 1, 21, "“endif” is missing"),
        ("x\ny {{ points", 2, 3, "“}}” is missing"),
        ("Hi\n{{ customer.first_name }}", 2, 4, "Did you mean “customer.given_name”?"),
        ("{{ settings.SECRET_KEY }}", 1, 4, "There is no value “settings.SECRET_KEY”"),
    ],
)
def test_it_says_line_and_column_of_what_is_wrong(reader, words, line, column, sentence):
    problem = found(text("Fine."), text(words), reader=reader)[0]
    assert (problem.level, problem.block, problem.line, problem.column) == ("bad", 1, line, column)
    assert sentence in problem.text
    assert problem.where == f"Block 2, line {line}, column {column}"


def test_it_says_every_mistake_at_once(reader):
    said = found(text("{{ a.b }}"), text("{{ points | x }} {{ c }}"), text("{% if"), reader=reader, subject="{{ oh }}")
    assert [(problem.block, problem.level) for problem in said] == [
        (-1, "bad"), (0, "bad"), (1, "bad"), (1, "bad"), (2, "bad"),
    ]  # fmt: skip
    assert said[0].where.startswith("Subject")


def test_it_counts_for_whom_a_value_is_missing(reader):
    people(3)
    unnamed = people(2, name="", given_name="")
    CustomerFacts.objects.update(may_email=True)
    CustomerFacts.objects.filter(pk=unnamed[0].pk).update(may_email=False)
    shows = one(text("Hello {{ customer.given_name | default: 'friend' }}"), reader=reader)
    assert (shows.level, shows.text) == ("info", "No first name for 1 of 5 people: shows “friend”.")
    gap = one(text("Hello {{ customer.given_name }}"), reader=reader)
    assert (gap.level, gap.text[:51]) == ("warn", "No first name for 1 of 5 people: leaves a gap. Inse")
    guarded = "{% if customer.given_name != '' %}{{ customer.given_name }}, {% endif %}hello"
    assert found(text(guarded), reader=reader) == []
    assert found(text("{{ points }} {{ shop.name }}"), reader=reader) == []
    # A service notice goes to everybody with an address.
    assert "2 of 6" in one(text("{{ customer.given_name }}"), reader=reader, purpose="service").text


def test_its_sentence_names_the_limit_when_the_shop_is_larger(reader, monkeypatch):
    monkeypatch.setattr(checks, "LOOKED_AT", 2)
    people(3, city="")
    CustomerFacts.objects.update(may_email=True)
    said = one(text("{{ customer.city | default: 'your town' }}"), reader=reader).text
    assert said == "No city for 2 of 2 people: shows “your town”. Counted among the newest customers."


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("https://shop.example/a?b=1", None),
        ("mailto:hello@shop.example", None),
        ("http://shop.example/", "warn"),
        ("https://localhost/x", "warn"),
        ("https://10.0.0.7/", "warn"),
        ("https://127.1/", "warn"),
        ("https://0x7f000001/", "warn"),
        ("https://[::1]/", "warn"),
        ("https://169.254.169.254/latest", "warn"),
        ("https://printer.local/", "warn"),
        ("https://intranet/", "warn"),
        ("javascript:alert(1)", "bad"),
        ("data:text/html,x", "bad"),
        ("//shop.example/x", "bad"),
        ("shop.example", "bad"),
        ("https://", "bad"),
        ("https://[bad", "bad"),
        ("https://shop.example:port/", "bad"),
        ("https://shop.example/a b", "bad"),
        ("ftp://shop.example/", "bad"),
    ],
)
def test_it_judges_links_by_their_looks(reader, url, level):
    said = found({"type": "button", "text": "Go", "url": url}, reader=reader)
    assert [problem.level for problem in said if problem.code == "link"] == ([level] if level else [])
    inside = found(text(f'<a href="{url}">x</a>'), reader=reader)
    if " " not in url:
        assert [problem.level for problem in inside if problem.code == "link"] == ([level] if level else [])


def test_it_judges_links_as_the_reader_gets_them(reader, settings):
    said = one({"type": "button", "text": "Go", "url": "{{ shop.url }}/x"}, reader=reader)
    assert settings.SITE_URL in said.text
    assert (
        found({"type": "button", "text": "Go", "url": "https://shop.example/?c={{ customer.city }}"}, reader=reader)
        == []
    )


def test_it_warns_of_a_description_that_is_the_name_of_a_file(reader):
    picture = {"type": "image", "url": "https://shop.example/IMG_1.png"}
    assert one({**picture, "text": "IMG_1.png"}, reader=reader).code == "alt"
    assert found({**picture, "text": "A red bicycle"}, reader=reader) == []
    missing = one({**picture, "text": " "}, reader=reader)
    assert (missing.level, missing.field) == ("bad", "text")


def test_it_warns_of_what_gmail_would_cut_off(reader):
    many = "{% for i in (1..900) %}" + "word " * 25 + "{% endfor %}"
    said = one(text(many), reader=reader)
    assert (said.level, said.code) == ("warn", "too_large")
    assert "Gmail cuts off after 102 kB" in said.text
    assert found(text(many.replace("900", "300")), reader=reader) == []


def test_it_looks_whether_there_is_a_way_out(reader, monkeypatch):
    assert found(text("x"), reader=reader) == []
    real = rendering.Prepared.make

    def without(self, values):
        return real(self, {**values, "unsubscribe_url": ""})

    monkeypatch.setattr(rendering.Prepared, "make", without)
    assert one(text("x"), reader=reader).code == "no_unsubscribe"
    assert found(text("x"), reader=reader, purpose="service") == []


def test_it_names_missing_languages_and_what_is_read_instead(settings):
    variant = VariantFactory(language="sv")
    people(2, language="pl")
    CustomerFacts.objects.update(may_email=True)
    said = {problem.code: (problem.level, problem.text) for problem in checks.unwritten(variant.template)}
    assert set(said) == {"missing_en", "missing_nb", "missing_pl", "missing_cs"}
    assert said["missing_pl"] == ("warn", "Missing Polish: 2 people who read it get Swedish.")
    assert said["missing_cs"][0] == "info"
    texts.write(template=variant.template, language="en", subject="S", blocks=[text("x")])
    assert checks.unwritten(variant.template)[1].text == "Missing Polish: 2 people who read it get English."
    assert checks.unwritten(TemplateFactory()) == []


def test_a_version_is_not_saved_with_a_mistake_that_no_reader_has_met():
    template = TemplateFactory()
    with pytest.raises(BrokenTemplate) as refusal:
        texts.write(
            template=template,
            language="en",
            subject="S",
            blocks=[text("{% if points > 9 %}{{ 1 | nofilter }}{% endif %}")],
        )
    assert refusal.value.extra["column"] == 27
    assert not template.variants.exists()


# --- The test to oneself ----------------------------------------------------------------------------------------------

COUNTED = (Run, Message, Rendering, Slot, Link, Visit, DeliveryEvent)


@pytest.fixture
def author(client):
    client.user = UserFactory(role="marketer", email="maja@shop.example", name="Maja\r\nBcc: x@evil.example")
    client.force_login(client.user)
    return client


def sent_to_oneself(author, template, who, language="en"):
    address = reverse("campaigns:template-test", args=[template.key, language])
    return author.post(address, {"customer": who.pk}, follow=True)


def test_it_sends_a_test_to_oneself_that_counts_nowhere(author, reader, smtp):
    template = VariantFactory(
        blocks=[{"type": "button", "text": "Go", "url": "https://shop.example/x"}, text("{{ points }} points")]
    ).template
    facts = CustomerFacts.objects.filter(pk=reader.pk).values().get()
    answer = sent_to_oneself(author, template, reader)
    assert "The test is on its way to maja@shop.example." in answer.content.decode()
    [mail] = smtp.messages
    assert mail.recipients == ["maja@shop.example"]
    source = mail.raw.decode()
    assert str(mail.message["Subject"]) == f"[TEST] Hello {reader.given_name}"
    assert mail.message["List-Unsubscribe"] is None
    assert "https://shop.example/x" in source.replace("=\r\n", "").replace("=3D", "=")
    for trace in ("/p/c/", "/p/o/", "List-Unsubscribe", "evil.example>", "\nBcc:"):
        assert trace not in source
    assert "/p/u/preview/" in source.replace("=\r\n", "")
    for model in COUNTED:
        assert not model.objects.exists(), model
    assert CustomerFacts.objects.filter(pk=reader.pk).values().get() == facts
    row = TrialMessage.objects.get()
    assert (row.state, row.transport, row.sent_to, row.sent_by, row.customer, row.version) == (
        "sent", "smtp", "maja@shop.example", author.user, reader, 0,
    )  # fmt: skip


def test_a_subject_cannot_begin_another_header(author, smtp):
    who = person(given_name="Åsa\r\nBcc: everybody@evil.example")
    template = VariantFactory(subject="Hi {{ customer.given_name }}\u2028X-Evil: 1").template
    sent_to_oneself(author, template, who)
    [mail] = smtp.messages
    source = mail.raw.decode()
    head = source.partition("\r\n\r\n")[0].split("\r\n")
    assert not [line for line in head if line.lower().startswith(("bcc", "x-evil"))]
    assert mail.recipients == ["maja@shop.example"]


def test_it_says_when_nothing_leaves_this_machine(author, reader):
    answer = sent_to_oneself(author, VariantFactory().template, reader)
    assert "kept here: no mail server is set up" in answer.content.decode()
    assert TrialMessage.objects.get().transport == "local"


def test_it_writes_down_a_test_that_the_server_refused(author, reader, smtp):
    smtp.on_recipient = "550 5.1.1 nobody here"
    template = VariantFactory().template
    answer = author.post(reverse("campaigns:template-test", args=[template.key, "en"]), {"customer": reader.pk})
    assert answer.status_code == 502
    assert "The test did not leave: 550" in answer.content.decode()
    assert (TrialMessage.objects.get().state, smtp.messages) == ("failed", [])


def test_it_sends_no_more_tests_than_a_person_reads(author, reader, smtp):
    template = VariantFactory().template
    address = reverse("campaigns:template-test", args=[template.key, "en"])
    answers = [author.post(address, {"customer": reader.pk}).status_code for _ in range(trials.A_MINUTE + 1)]
    assert answers == [302] * trials.A_MINUTE + [429]
    assert len(smtp.messages) == TrialMessage.objects.count() == trials.A_MINUTE


def test_no_test_leaves_while_all_sending_is_stopped(author, reader, smtp):
    Hold.objects.create(reason="A backup was restored.")
    with pytest.raises(NotNow):
        trials.send(variant=VariantFactory(), customer=reader, user=author.user)
    assert smtp.messages == []
    assert not TrialMessage.objects.exists()


def test_a_text_with_a_mistake_is_not_sent_as_a_test(author, reader, smtp):
    with pytest.raises(BrokenTemplate):
        trials.send(variant=VariantFactory(blocks=[text("{{ nothing }}")]), customer=reader, user=author.user)
    assert smtp.messages == []
    assert not TrialMessage.objects.exists()


# --- Links that are asked ---------------------------------------------------------------------------------------------


@pytest.fixture
def shop_site(tmp_path, settings):
    """A real web server of this machine with one page."""
    (tmp_path / "sale").touch()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        settings.SITE_URL = f"http://127.0.0.1:{server.server_port}"
        yield settings.SITE_URL
        server.shutdown()


def test_it_asks_links_that_are_the_same_for_everybody(shop_site):
    blocks = [
        {"type": "button", "text": "Go", "url": "{{ shop.url }}/sale"},
        text('<a href="{{ shop.url }}/nothing-here">x</a> <a href="mailto:a@shop.example">y</a>'),
        {"type": "button", "text": "Mine", "url": "{{ shop.url }}/?who={{ customer.email }}"},
    ]
    links = [(place, url) for place, _field, url in checks.links_of(blocks)]
    assert links == [(0, f"{shop_site}/sale"), (1, f"{shop_site}/nothing-here")]
    [broken] = checks.try_links(blocks, allowed=lambda _address, _port: True)
    assert (broken.level, broken.code, broken.block) == ("warn", "broken_link", 1)
    assert "answers 404: there is nothing to read." in broken.text
    assert checks.try_links(blocks) == []  # A page asks nobody of a private network.


def test_its_button_asks_and_says_that_all_is_well(author, reader):
    template = VariantFactory(blocks=[{"type": "button", "text": "Go", "url": "http://127.0.0.1:9/"}]).template
    address = reverse("campaigns:template", args=[template.key, "en"])
    answer = author.post(address, {"do": "try_links", "revision": 0})
    assert answer.status_code == 200
    assert "Every link answers" not in answer.content.decode()
    assert "is an address inside a private network" in answer.content.decode()
