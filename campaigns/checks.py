"""What is wrong with a text before anybody gets it, each with its place.

``bad`` keeps a text from being saved as a version or fails the message of the reader it was tried on; ``warn`` deserves a
look; ``info`` says what somebody without a value reads. Nothing here asks the network.
"""

from __future__ import annotations

import html
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from campaigns import blocks as blocklist
from campaigns import letters, parts, rendering, texting, texts
from campaigns.blocks import SUBJECT, WORDS
from campaigns.errors import BrokenTemplate
from campaigns.models import Channel, Purpose, Template, TemplateVariant
from campaigns.vocabulary import OTHER_NAMES, VALUES
from customers.models import Customer
from lifecycle_crm.lib import batches, clock, outward
from lifecycle_crm.templatetags.crm import num

BAD, WARN, INFO = "bad", "warn", "info"

CLIPPED_AT = 102 * 1024
"""Bytes of HTML after which Gmail hides the rest behind "View entire message", and with it our way to unsubscribe. Senders
agree on 102 kB; one who measured it found about 105, depending on the encoding:
https://www.spamresource.com/2022/01/what-is-gmail-clipping-and-what-to-do.html"""
LOOKED_AT = 20_000
"""The newest customers, whose missing values are counted; with more of them the sentence says so."""
_HREF = re.compile(r"""href\s*=\s*["']?([^"'\s>]+)""", re.IGNORECASE)
_FILE_NAME = re.compile(r"\S+\.(png|jpe?g|gif|webp|svg)$", re.IGNORECASE)
_OWN = re.compile(r"\{\{-?\s*shop\.url\s*-?\}\}")
TRIED = 20
"""Links of one text that are asked at once."""
_PRIVATE_ENDINGS = (".local", ".localhost", ".internal", ".lan", ".home.arpa")


@dataclass(frozen=True)
class Finding:
    """``block``: place from 0, ``blocks.SUBJECT`` for the subject, ``None`` for the whole. ``line`` and ``column`` from 1,
    within ``field``."""

    level: str
    code: str
    text: str
    block: int | None = None
    field: str = ""
    line: int | None = None
    column: int | None = None

    @property
    def where(self) -> str:
        """The place in words; "" for the whole text."""
        if self.block is None:
            return ""
        named = {SUBJECT: _("Subject"), WORDS: _("Text")}
        words = named.get(self.block) or _("Block %(number)d") % {"number": self.block + 1}
        if self.line is None:
            return words
        place = {"where": words, "line": self.line, "column": self.column}
        return _("%(where)s, line %(line)d, column %(column)d") % place


@dataclass(frozen=True)
class Readers:
    """Who may get a text: how many, how many of them lack each value, and how many speak each language."""

    people: int
    is_all: bool
    missing: dict[str, int]
    speak: dict[str, int]


def readers(purpose: str, channel: str = Channel.EMAIL) -> Readers:
    """Counted over the newest customers, so that it takes no longer in a large shop."""
    may = "f.may_email" if connection.vendor == "postgresql" else "f.may_email = 1"
    if channel == Channel.SMS:
        reach = "substr(c.phone, 1, 1) = '+'"
    else:
        reach = f"c.email_key IS NOT NULL{f' AND {may}' if purpose == Purpose.MARKETING else ''}"
    asked = [one for one in VALUES.values() if one.missing]
    sums = ", ".join(f"sum(CASE WHEN {one.missing} THEN 1 ELSE 0 END)" for one in asked)
    rows = batches.rows(
        f"""
        SELECT c.language, count(*), {sums}
        FROM (SELECT * FROM customers_customer ORDER BY id DESC LIMIT %s) c
        LEFT JOIN customers_customerfacts f ON f.customer_id = c.id
        WHERE {reach} GROUP BY c.language
        """,
        [LOOKED_AT],
    )
    speak: dict[str, int] = {}
    for row in rows:
        code = row[0] or settings.LANGUAGE_CODE
        speak[code] = speak.get(code, 0) + row[1]
    return Readers(
        people=sum(row[1] for row in rows),
        is_all=Customer.objects.order_by("-pk")[LOOKED_AT : LOOKED_AT + 1].count() == 0,
        missing={one.path: sum(int(row[2 + n] or 0) for row in rows) for n, one in enumerate(asked)},
        speak=speak,
    )


def find(
    *, template: Template, subject: str, blocks: Sequence[Mapping[str, Any]], language: str,
    customer: Customer | None = None, known: Readers | None = None,
) -> list[Finding]:  # fmt: skip
    """Everything there is to say about a text in one language; worst first, then in its order. ``customer`` is whom it is
    tried on."""
    known = known or readers(template.purpose, template.channel)
    if template.channel == Channel.SMS:
        return _of_sms(template, subject, blocks, language, customer, known)
    values = letters.values_of([customer.pk], clock.now())[customer.pk] if customer else None
    found: list[Finding] = []
    if not subject.strip():
        found.append(Finding(BAD, "no_subject", _("Write a subject."), SUBJECT, "subject"))
    if not blocks:
        found.append(Finding(BAD, "no_blocks", _("A template needs at least one block.")))
    found += _of_piece(subject, SUBJECT, "subject", known)
    for place, block in enumerate(blocks):
        try:
            read = blocklist.read_one(block, place)
        except BrokenTemplate as problem:
            found.append(Finding(BAD, "block", problem.message, place, str(problem.extra.get("field", ""))))
            continue
        for field, text in blocklist.texts(read):
            of_piece = _of_piece(text, place, field.name, known)
            found += of_piece
            if not any(one.level == BAD for one in of_piece):
                found += _links(text, place, field, values)
            if field.name in ("left_alt", "right_alt") or (read["type"] == "image" and field.name == "text"):
                found += _description(text, place, field.name)
    if not any(one.level == BAD for one in found):
        found += _whole(template, subject, blocks, language, customer)
    order = {BAD: 0, WARN: 1, INFO: 2}
    return sorted(found, key=lambda one: (order[one.level], -2 if one.block is None else one.block))


def _of_sms(
    template: Template, subject: str, blocks: Sequence[Mapping[str, Any]], language: str, customer: Customer | None,
    known: Readers,
) -> list[Finding]:  # fmt: skip
    if not blocks:
        return [Finding(BAD, "no_words", _("Write the text."), WORDS, "text")]
    try:
        words = texting.read(subject=subject, blocks=blocks)
    except BrokenTemplate as problem:
        return [Finding(BAD, "no_sms", problem.message, WORDS, "text")]
    found = _of_piece(words, WORDS, "text", known)
    for url in dict.fromkeys(texting.urls_of(words)):
        if "{" not in url and (wrong := link_problem(url)):
            found.append(Finding(wrong[0], "link", wrong[1] % {"url": url[:80]}, WORDS, "text"))
    if not any(one.level == BAD for one in found):
        found += _of_parts(template, words, language, customer)
    order = {BAD: 0, WARN: 1, INFO: 2}
    return sorted(found, key=lambda one: order[one.level])


def _of_parts(template: Template, words: str, language: str, customer: Customer | None) -> list[Finding]:
    variant = TemplateVariant(template=template, language=language, subject="", blocks=texting.stored(words))
    try:
        if customer is None:
            measured = letters.made_of(variant, letters.sms_example(language)).measured
        else:
            measured = letters.shown(variant=variant, customer=customer).measured
    except BrokenTemplate as problem:
        return [Finding(BAD, "render", problem.message, WORDS, "text")]
    assert measured is not None
    found = [Finding(INFO, "parts", said_of(measured))]
    if measured.encoding == parts.UCS:
        signs = " ".join(measured.forced_by[:8])
        sentence = _(
            "Not in the alphabet of SMS: %(signs)s. With it a part holds 70 characters instead of 160, so the text may cost "
            "twice as much."
        )
        found.append(Finding(WARN, "alphabet", sentence % {"signs": signs}, WORDS, "text"))
    return found


def said_of(measured: parts.Measured) -> str:
    """What a text takes, as a sentence."""
    sentence = ngettext(
        "Takes %(parts)s part (%(units)s places, %(encoding)s).",
        "Takes %(parts)s parts (%(units)s places, %(encoding)s).",
        measured.parts,
    )
    return sentence % {"parts": num(measured.parts), "units": num(measured.units), "encoding": measured.encoding}


# --- One piece of Liquid ----------------------------------------------------------------------------------------------


def _said(saying: str) -> str:
    """What Liquid says of a mistake, in words."""
    for pattern, sentence in (
        (r"unknown filter '(.+?)'", _("There is no filter “%(name)s”.")),
        (r"unexpected tag '(.+?)'", _("There is no tag “%(name)s” here.")),
        (r"expected tag (end\w+)", _("Something that was opened is not closed: “%(name)s” is missing.")),
        (r"(?:expected|missing) '(.+?)'", _("Something is not closed: “%(name)s” is missing.")),
    ):
        if named := re.search(pattern, saying):
            return sentence % {"name": named[1]}
    return _("This is no Liquid: %(problem)s.") % {"problem": saying.rstrip(".")}


def _of_piece(text: str, place: int, field: str, known: Readers) -> list[Finding]:
    try:
        compiled = rendering.parse(text, where="", block=place)
    except BrokenTemplate as problem:
        where = problem.extra
        return [Finding(BAD, "liquid", _said(where["saying"]), place, field, where["line"], where["column"])]
    uses = {use.path: use for use in blocklist.uses(text)}
    found: list[Finding] = []
    for name, index in rendering.unknown_filters(compiled, text, is_subject=place == SUBJECT):
        line, column = rendering.place_of(index, text)
        found.append(Finding(BAD, "liquid", _said(f"unknown filter '{name}'"), place, field, line, column))
    for variables in compiled.analyze().globals.values():
        for one in variables:
            path = ".".join(str(step) for step in one.segments)
            use = uses.get(path)
            if not _is_known(path) and (use is None or use.fallback is None):
                found.append(_unknown(path, text, one.span.index, place, field))
    for path, use in uses.items():
        lacking = known.missing.get(path, 0)
        if lacking and not use.is_guarded:
            found.append(_gap(path, use.fallback, lacking, known, place, field))
    return found


def _is_known(path: str) -> bool:
    return path in VALUES or path in ("customer", "shop") or path.rpartition(".")[2] in ("size", "first", "last")


def _unknown(path: str, text: str, index: int, place: int, field: str) -> Finding:
    line, column = rendering.place_of(index, text)
    sentence = _("There is no value “%(path)s”, so no message could be made.") % {"path": path}
    near = OTHER_NAMES.get(path.rpartition(".")[2]) or next(iter(get_close_matches(path, VALUES, n=1, cutoff=0.5)), "")
    if near:
        sentence += " " + _("Did you mean “%(path)s”?") % {"path": near}
    return Finding(BAD, "unknown_value", sentence, place, field, line, column)


def _gap(path: str, fallback: str | None, lacking: int, known: Readers, place: int, field: str) -> Finding:
    words = {"value": VALUES[path].label, "n": num(lacking), "all": num(known.people), "fallback": fallback or ""}
    if fallback:
        text = _("No %(value)s for %(n)s of %(all)s people: shows “%(fallback)s”.") % words
    else:
        text = (
            _("No %(value)s for %(n)s of %(all)s people: leaves a gap. Insert it with something to stand in.") % words
        )
    if not known.is_all:
        text += " " + _("Counted among the newest customers.")
    return Finding(INFO if fallback else WARN, "missing_value", text, place, field)


# --- Links and pictures -----------------------------------------------------------------------------------------------


def _links(text: str, place: int, field: blocklist.Field, values: Mapping[str, Any] | None) -> list[Finding]:
    if "{" in text:
        if values is None:
            return []
        try:
            text = rendering.parse(text, where="", block=place).render(**values)
        except Exception:
            # Whatever a filter raises for this reader is said once, of the whole text.
            return []
    urls = [html.unescape(text.strip())] if field.form == "url" else [html.unescape(one) for one in _HREF.findall(text)]
    found = []
    for url in dict.fromkeys(urls):
        if problem := link_problem(url):
            level, sentence = problem
            found.append(Finding(level, "link", sentence % {"url": url[:80]}, place, field.name))
    return found


def link_problem(url: str) -> tuple[str, str] | None:
    """(level, sentence with ``%(url)s``) for an address that does not work for a reader; by its looks alone."""
    if re.match(r"(mailto|tel):[^\s<>\"']+$", url, re.IGNORECASE):
        return None
    try:
        parts = urlsplit(url)
        host, _port = (parts.hostname or ""), parts.port
    except ValueError:
        parts, host = None, ""
    if parts is None or parts.scheme.lower() not in ("http", "https") or not host or re.search(r"[\s<>\"']", url):
        return BAD, _("“%(url)s” is no web address. It begins with https://.")
    if _is_private(host):
        return WARN, _("“%(url)s” is an address inside a private network: readers cannot open it.")
    if parts.scheme.lower() == "http":
        return WARN, _("“%(url)s” is not encrypted: write https://, or browsers warn.")
    return None


def links_of(blocks: Sequence[Mapping[str, Any]]) -> list[tuple[int, str, str]]:
    """(place of the block, field, address) of every link and picture that is the same for everybody: one that names the
    reader is asked by nobody but them."""
    found: dict[str, tuple[int, str, str]] = {}
    for place, block in enumerate(blocks):
        if block.get("type") not in blocklist.KINDS:
            continue
        for field, text in blocklist.texts(block):
            for source in [text.strip()] if field.form == "url" else _HREF.findall(_OWN.sub(settings.SITE_URL, text)):
                url = html.unescape(_OWN.sub(settings.SITE_URL, source))
                problem = link_problem(url)
                is_web = url.lower().startswith(("http://", "https://"))
                if is_web and "{" not in url and (problem is None or problem[0] != BAD):
                    found.setdefault(url, (place, field.name, url))
    return list(found.values())[:TRIED]


def try_links(blocks: Sequence[Mapping[str, Any]], *, allowed: outward.Allowed = outward.is_public) -> list[Finding]:
    """Ask every link whether it leads anywhere. Only addresses of the public internet are asked, and for no more than a few
    seconds; who refuses machines (401, 403, 429) is taken for there."""
    links = links_of(blocks)
    if allowed is outward.is_public:
        # Said already, by their looks.
        links = [one for one in links if not _is_private(urlsplit(one[2]).hostname or "")]
    answers = outward.statuses([url for _place, _field, url in links], allowed=allowed)
    found = []
    for place, field, url in links:
        status = answers[url]
        words = {"url": url[:80], "status": status}
        if status == 0:
            found.append(Finding(WARN, "broken_link", _("“%(url)s” does not answer.") % words, place, field))
        elif status in (404, 410) or status >= 500:
            sentence = _("“%(url)s” answers %(status)d: there is nothing to read.") % words
            found.append(Finding(WARN, "broken_link", sentence, place, field))
    return found


def _is_private(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return not address.is_global
    name = host.rstrip(".").lower()
    if re.fullmatch(r"(0x[0-9a-f]+|\d+)(\.(0x[0-9a-f]+|\d+))*", name):  # other spellings of a number
        return True
    return "." not in name or name.endswith(_PRIVATE_ENDINGS)


def _description(text: str, place: int, field: str) -> list[Finding]:
    if _FILE_NAME.match(text.strip()):
        sentence = _("“%(text)s” is the name of a file. Say what the picture shows.") % {"text": text.strip()[:60]}
        return [Finding(WARN, "alt", sentence, place, field)]
    return []


# --- The whole --------------------------------------------------------------------------------------------------------


def _whole(
    template: Template, subject: str, blocks: Sequence[Mapping[str, Any]], language: str, customer: Customer | None
) -> list[Finding]:
    variant = TemplateVariant(template=template, language=language, subject=subject, blocks=list(blocks))
    try:
        if customer is None:
            letters.prepared(variant)
            return []
        made = letters.shown(variant=variant, customer=customer)
    except BrokenTemplate as problem:
        block = problem.extra.get("block")
        return [Finding(BAD, "render", problem.message, block if isinstance(block, int) else None)]
    found: list[Finding] = []
    if (size := len(made.html.encode())) > CLIPPED_AT:
        words = {"size": num(size // 1024), "most": num(CLIPPED_AT // 1024)}
        sentence = _("%(size)s kB: Gmail cuts off after %(most)s kB, and the way to unsubscribe with it. Shorten it.")
        found.append(Finding(WARN, "too_large", sentence % words))
    if template.purpose != Purpose.SERVICE and letters.NO_WAY_OUT not in html.unescape(made.html):
        sentence = _("There is no way to unsubscribe in it. Offers must not leave without one.")
        found.append(Finding(BAD, "no_unsubscribe", sentence))
    return found


def unwritten(template: Template, known: Readers | None = None) -> list[Finding]:
    """A line for each language without words, with how many people speak it and what they get instead."""
    written = texts.written_in(template)
    if not written:
        return []
    known = known or readers(template.purpose, template.channel)
    found = []
    for code in texts.LANGUAGES:
        if code in written:
            continue
        words = {
            "language": texts.language_name(code),
            "n": num(known.speak.get(code, 0)),
            "other": texts.language_name(texts.falls_back_to(template, code)),
        }
        sentence = ngettext(
            "Missing %(language)s: %(n)s person who reads it gets %(other)s.",
            "Missing %(language)s: %(n)s people who read it get %(other)s.",
            known.speak.get(code, 0),
        )
        level = WARN if known.speak.get(code) else INFO
        found.append(Finding(level, f"missing_{code}", sentence % words))
    return found
