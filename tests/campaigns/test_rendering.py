"""Texts of people we do not trust, data of people we do not know."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest

from campaigns import layout, rendering
from campaigns.errors import BrokenTemplate
from campaigns.models import TemplateVariant

VALUES = rendering.plain(
    {
        "customer": {
            "given_name": "Åsa", "name": "Åsa Öberg", "email": "asa@example.com", "city": "Malmö", "country": "SE",
            "language": "sv", "orders": 3, "days_since_order": 200, "tier": "",
        },
        "points": 120,
        "shop": {"name": "Test shop", "address": "1 Test Street", "url": "https://shop.example"},
        "unsubscribe_url": "https://shop.example/p/u/token",
    }
)  # fmt: skip


def made(*texts: str, subject: str = "Hello", values: dict | None = None, language: str = "en") -> rendering.Made:
    blocks = [{"type": "text", "text": text} for text in texts]
    return rendering.Prepared(language=language, subject=subject, blocks=blocks, has_foot=True).make(
        {**VALUES, **(values or {})}
    )


def test_it_makes_a_page_and_the_same_in_plain_text():
    blocks = [
        {"type": "heading", "text": "{{ customer.given_name | default: 'Friend' }}, hello"},
        {"type": "text", "text": 'First line.\n\nSecond, with a <a href="https://shop.example/x">link</a>.'},
        {"type": "divider"},
        {"type": "button", "text": "Have a look", "url": "{{ shop.url }}/new?a=1&b=2"},
    ]
    answer = rendering.Prepared(
        language="sv", subject="Hej {{ customer.given_name }}", blocks=blocks, has_foot=True
    ).make(VALUES)
    assert answer.subject == "Hej Åsa"
    assert '<html lang="sv">' in answer.html
    assert ">Åsa, hello</h1>" in answer.html
    assert answer.html.count("<p style=") == 2
    assert 'href="https://shop.example/new?a=1&amp;b=2"' in answer.html
    assert "Avsluta prenumerationen" in answer.html
    assert answer.text == (
        "Åsa, hello\n\nFirst line.\n\nSecond, with a link (https://shop.example/x).\n\n--------\n\n"
        "Have a look: https://shop.example/new?a=1&b=2\n\n-- \n"
        "Du får det här för att du har tackat ja till nyheter från Test shop.\n"
        "Avsluta prenumerationen: https://shop.example/p/u/token\nSkickat av Test shop, 1 Test Street\n"
    )


def test_it_leaves_out_a_block_that_a_condition_empties():
    blocks = [
        {"type": "text", "text": "{% if points > 0 %}You have {{ points }}.{% endif %}"},
        {"type": "text", "text": "Bye."},
    ]
    prepared = rendering.Prepared(language="en", subject="S", blocks=blocks, has_foot=False)
    assert prepared.make({**VALUES, "points": 0}).html.count("<p style=") == 1
    assert prepared.make(VALUES).text.startswith("You have 120.\n\nBye.")


@pytest.mark.parametrize(
    "bad",
    ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg/onload=alert(1)>', "<b>bold</b>"],
)
def test_it_escapes_what_customers_call_themselves(bad):
    answer = made("Hello {{ customer.name }}", values={"customer": {"name": bad}})
    assert bad not in answer.html
    for word in ("<script", "<img", "<svg", "<b>"):
        assert word not in answer.html
    assert bad in answer.text  # plain text has nothing to escape


@pytest.mark.parametrize(
    ("text", "never"),
    [
        ("<script>alert(1)</script>x", "<script"),
        ('<a href="javascript:alert(1)">x</a>', "javascript:"),
        ('<a href="data:text/html,x">x</a>', "data:text"),
        ('<img src="https://evil.example/pixel.gif">x', "<img"),
        ('<p style="position:fixed">x</p>', "position:fixed"),
        ('<form action="https://evil.example"><input></form>x', "<form"),
        ('<a href="https://a.example" onclick="x()">x</a>', "onclick"),
        ("</td></tr></table><h1>x</h1>", "<h1>x"),
        ("<math><mtext></mtext><style><img src=x onerror=alert(1)></style></math>x", "onerror="),
        ("<style>body{display:none}</style>x", "display:none"),
        ('<iframe src="https://evil.example"></iframe>x', "<iframe"),
        ("<!--x--><base href=//evil.example>x", "<base"),
    ],
)
def test_it_cleans_what_authors_write(text, never):
    assert never not in made(text).html


HOSTILE = [
    # What a template must not reach.
    "{{ 7*7 }}", "{{ settings }}", "{{ settings.SECRET_KEY }}", "{{ request }}", "{{ self }}", "{{ config }}",
    "{{ customer.__class__ }}", "{{ customer.__class__.__mro__ }}", "{{ customer.delete }}", "{{ customer.save }}",
    "{{ customer.facts }}", "{{ customer.consents }}", "{{ customer.name.__class__ }}", "{{ customer['__class__'] }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ customer.keys }}", "{{ customer.items }}", "{{ env.HOME }}",
    "{{ lipsum.__globals__ }}", "{{ cycler.__init__ }}", "{{ shop.SECRET }}", "${7*7}", "<%= 7*7 %>", "#{7*7}",
    "{{ points.real }}", "{{ points.__add__ }}", "{{ block.super }}", "{{ nothing }}", "{{ nothing.at.all }}",
    # Tags that are not there.
    "{% include 'x' %}", "{% render 'x' %}", "{% include '/etc/passwd' %}", "{% load static %}", "{% debug %}",
    "{% import os %}", "{% extends 'base.html' %}", "{% tablerow i in (1..1000000) %}x{% endtablerow %}",
    "{% capture a %}x{% endcapture %}", "{% cycle 'a', 'b' %}", "{% increment x %}", "{% liquid echo 1 %}",
    # Filters that are not there.
    "{{ '<b>' | safe }}", "{{ 'eA==' | base64_decode }}", "{{ customer.name | attr: 'x' }}", "{{ 1 | system }}",
    # Too much work.
    "{% for i in (1..100000000) %}x{% endfor %}",
    "{% for i in (1..300) %}{% for j in (1..300) %}{% for k in (1..300) %}x{% endfor %}{% endfor %}{% endfor %}",
    "{{ (1..100000000) | join: 'xxxxxxxxxx' }}", "{{ (1..100000000) | size }}", "{{ (1..100000000) | reverse }}",
    "{% assign a = 'x' %}{% for i in (1..900) %}{% assign a = a | append: a %}{% endfor %}{{ a }}",
    "{{ 'aaaaaaaaaa'" + " | replace: 'a', 'aaaaaaaaaa'" * 9 + " }}",
    "{{ 'a' | replace: '', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'" + " | replace: '', 'aaaaaaaaaaaa'" * 9 + " }}",
    "{% assign a = 'a,b' | split: ',' %}" + "{% assign a = a | concat: a %}" * 40 + "{{ a | join: '' }}",
    "{{ 'x'" + " | url_encode | escape | base64_encode" * 60 + " }}",
    "{% assign n = 999999999 %}" + "{% assign n = n | times: n %}" * 30 + "{{ n }}",
    "{{ 1 | divided_by: 0 }}", "{{ 'x' | date: '%Y' }}", "{{ 'now' | truncate: 999999999999 }}",
    "{{ 'x' | slice: 0, 99999999999999999999 }}",
    # Broken.
    "{{ customer.name", "{% if points %}", "{% endif %}", "{% for %}{% endfor %}", "{{ | }}", "{% break %}", "{%%}",
    "{{ customer.name | default }}{{", "{% if " + "(" * 5000 + "%}", "{% if true %}" * 200 + "{% endif %}" * 200,
    "x" * 40_000, "{{ '" + "x" * 29_000 + "' }}", "\x1e\x1e\x1e", "\x00", "",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_it_survives_a_hostile_template(text, monkeypatch):
    monkeypatch.setenv("CANARY", "canary-value")
    answer, said, took = None, "", []
    while len(took) < 3 and min(took, default=1) >= 0.5:  # A collection of garbage is no fault of the template.
        start = time.process_time()
        try:
            answer = made(text, "After.", subject=f"S {text[:500]}")
        except BrokenTemplate as problem:
            said = problem.message
        took.append(time.process_time() - start)
    assert min(took) < 0.5
    if answer is None:
        assert said
        assert len(said) < 400
        assert "\n" not in said
        return
    assert len(answer.html) < 1_000_000
    for secret in ("canary", "only-for-tests", "object at 0x", "<class", "built-in", "49"):
        assert secret not in answer.text.replace(text, "")
    assert "\n" not in answer.subject
    assert "After." in answer.text


BLOCKS = [
    {"type": "image", "text": "{0}", "url": "https://shop.example/a.png", "link": "https://shop.example/"},
    {"type": "columns", "left": "{0}", "right": "{0}", "left_image": "https://shop.example/a.png", "left_alt": "{0}"},
    {"type": "points", "text": "{0}"},
    {"type": "tier", "text": "{0}"},
]
"""The kinds that came later, with a place for somebody's words."""


OUR_TAGS = {
    "html", "head", "meta", "title", "style", "body", "table", "tr", "td", "h1", "p", "a", "b", "strong", "em", "i", "br",
    "span", "hr", "img", "div",
}  # fmt: skip


class _Seen(HTMLParser):
    """What a reader's program would find in a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.urls: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _value in attrs}
        self.urls += [value or "" for name, value in attrs if name in ("href", "src")]


@pytest.mark.parametrize("kind", [block["type"] for block in BLOCKS])
def test_it_cleans_and_bounds_every_kind_of_block(kind):
    block = next(one for one in BLOCKS if one["type"] == kind)
    values = {**VALUES, "customer": {**VALUES["customer"], "tier": "Gold"}}
    hostile = [
        *HOSTILE, '"><script>alert(1)</script>', "x' onerror='alert(1)", '" onload="alert(1)', "<svg/onload=alert(1)>",
        "</td></tr></table><form action=https://evil.example>", "<img src=https://evil.example/p.gif>",
        "{{ customer.name }}", "&lt;script&gt;",
    ]  # fmt: skip
    start = time.process_time()
    for words in hostile:
        filled = {name: text.replace("{0}", words) if name != "type" else text for name, text in block.items()}
        bad = {**values, "customer": {**values["customer"], "name": '"><script>alert(2)</script>'}}
        try:
            made = rendering.Prepared(language="en", subject="S", blocks=[filled], has_foot=True).make(bad)
        except BrokenTemplate:
            continue
        assert len(made.html) < 1_000_000
        assert "only-for-tests" not in made.html
        seen = _Seen()
        seen.feed(made.html)
        assert seen.tags <= OUR_TAGS, words
        assert not [name for name in seen.attributes if name.startswith("on")], words
        assert not [url for url in seen.urls if "evil.example" in url or "javascript:" in url], words
        assert made.html.count("<img ") == ("url" in block) + ("left_image" in block)
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)", "data:image/svg+xml,<svg onload=alert(1)>", "https://a.example/x.png\" onerror=\"alert(1)",
        "//a.example/x.png", "/x.png", "file:///etc/passwd", "mailto:x@a.example", "https://a.example/ x.png",
        "https://a.example/x.png\nX: y", "{{ customer.name }}", "",
    ],
)  # fmt: skip
def test_it_shows_no_picture_from_an_address_that_is_none(url):
    values = {**VALUES, "customer": {**VALUES["customer"], "name": "javascript:alert(1)"}}
    with pytest.raises(BrokenTemplate):
        rendering.Prepared(
            language="en", subject="S", blocks=[{"type": "image", "text": "A", "url": url}], has_foot=True
        ).make(values)


def test_the_policy_of_the_frame_cannot_be_written_by_an_author():
    addresses = [
        "https://a.example/x.png;script-src *", "https://a.example/x.png,'unsafe-inline'", "https://a.example/y.png?a;b",
        "https://a.example/z.png#;x",
    ]  # fmt: skip
    for address in addresses:
        blocks = [{"type": "image", "text": "A", "url": address}]
        try:
            page = rendering.Prepared(language="en", subject="S", blocks=blocks, has_foot=True).make(VALUES).html
        except BrokenTemplate:
            continue
        for source in layout.image_sources(page):
            assert re.fullmatch(r"https://a\.example/[xyz]\.png", source), source


def test_the_corpus_is_as_long_as_it_says():
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize(
    ("blocks", "sentence"),
    [
        ([], "A template needs at least one block."),
        (
            [{"type": "script", "text": "x"}],
            "Block 1 has no known type. Use one of: heading, text, image, button, columns, points, tier, divider.",
        ),
        ([{"type": "text", "text": " "}], "Block 1 (text) is empty. Write its text, or remove the block."),
        (
            [{"type": "button", "text": "x", "url": "javascript:alert(1)"}],
            "A button leads to 'javascript:alert(1)', which is not a web address.",
        ),
        (
            [{"type": "text", "text": "{% if points %}"}, {"type": "text", "text": "{% endif %}"}],
            "Block 1 has a mistake: ",
        ),
    ],
)
def test_it_says_what_is_wrong_with_a_template(blocks, sentence):
    with pytest.raises(BrokenTemplate) as refusal:
        rendering.check(subject="S", blocks=blocks, values=[VALUES])
    assert refusal.value.message.startswith(sentence)


def test_it_allows_exactly_its_own_styles_in_the_frame():
    page = made('<span style="position:fixed">x</span><style>p{color:red}</style>').html
    used = set(re.findall(r'style="([^"]*)"', page))
    assert used <= set(layout.STYLES.values())
    sources = layout.style_sources(page)
    assert sources[0] == "'unsafe-hashes'"
    assert len(sources) == len(used) + 2
    assert not {"'unsafe-inline'", "'self'"} & set(sources)


@pytest.mark.django_db
def test_it_ships_texts_that_can_be_made_in_five_languages():
    variants = list(TemplateVariant.objects.filter(template__key__in=["win-back", "thank-you"]))
    assert sorted({one.language for one in variants}) == ["cs", "en", "nb", "pl", "sv"]
    assert len(variants) == 10
    for one in variants:
        for points in (0, 1, 2, 120):
            for name in ("", "Åsa"):
                values = {**VALUES, "points": points, "customer": {**VALUES["customer"], "given_name": name}}
                rendering.check(subject=one.subject, blocks=one.blocks, language=one.language, values=[values])
