"""From the blocks of a template to the message one person gets.

Authors are not trusted: the language is Liquid with limits on loops, output, names and nesting, few tags, filters whose
results may not grow, and a context of plain strings and numbers. What a block renders to is cleaned down to inline HTML
and only then put into our own layout, so the layout cannot be broken from inside a block. Data is escaped on its way in.

A variant is compiled once per process; rendering one message is one pass over the compiled template.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nh3
from django.conf import settings
from liquid import DictLoader, Environment, StrictDefaultUndefined
from liquid.exceptions import LiquidError
from markupsafe import Markup

from campaigns.errors import BrokenTemplate

BLOCKS = ("heading", "text", "button", "divider")
SOURCE_LIMIT = 30_000
"""Characters of Liquid in one variant."""
VALUE_LIMIT = 60_000
"""Characters (or items) any single value may reach while a template is worked out."""
OUTPUT_LIMIT = 200_000
"""Bytes of output of one template."""

_BREAK = "\x1e"  # parts the blocks of one rendering; stripped from everything that comes in
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LINE_BREAKS = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029\x00-\x1f\x7f]+")
_TAGS = ("if", "unless", "case", "for", "assign", "comment", "break", "continue", "content", "output", "illegal", "#")
_NOT_FILTERS = ("safe", "escapejs", "base64_decode", "base64_url_safe_decode")


class Mail(Environment):
    """Liquid as we allow it."""

    loop_iteration_limit = 1_000
    local_namespace_limit = 100_000
    output_stream_limit = OUTPUT_LIMIT
    context_depth_limit = 10
    block_nesting_limit = 10


def _size(value: Any) -> int:
    try:
        return len(value)
    except TypeError:
        return 0


def _bounded(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """The filter with bounds on what goes in and what comes out: filters chained in one line are no loop, so the limits
    of the language would see only their result, after the memory is gone."""

    @functools.wraps(work)
    def bounded(value: Any, *arguments: Any, **named: Any) -> Any:
        sizes = [_size(value), *(_size(argument) for argument in arguments)]
        if max(sizes) > VALUE_LIMIT:
            raise BrokenTemplate("A value in this text grows too large. Shorten it.")
        if name.startswith("replace") and len(arguments) > 1:
            # An empty pattern matches between all characters.
            times = str(value).count(str(arguments[0]))
            if times * _size(str(arguments[1])) > VALUE_LIMIT:
                raise BrokenTemplate("A value in this text grows too large. Shorten it.")
        if name == "join" and sizes[0] * max(1, _size(arguments[0] if arguments else " ")) > VALUE_LIMIT:
            raise BrokenTemplate("A value in this text grows too large. Shorten it.")
        if isinstance(value, int) and abs(value) > 10**15:
            raise BrokenTemplate("A number in this text grows too large.")
        result = work(value, *arguments, **named)
        if _size(result) > VALUE_LIMIT:
            raise BrokenTemplate("A value in this text grows too large. Shorten it.")
        return result

    return bounded


def _environment(*, autoescape: bool) -> Mail:
    environment = Mail(autoescape=autoescape, undefined=StrictDefaultUndefined, loader=DictLoader({}))
    environment.tags = {name: tag for name, tag in environment.tags.items() if name in _TAGS}
    environment.filters = {
        name: _bounded(name, work) for name, work in environment.filters.items() if name not in _NOT_FILTERS
    }
    return environment


_markup = _environment(autoescape=True)
_plain = _environment(autoescape=False)

# --- Layout: ours alone -----------------------------------------------------------------------------------------------

_FONT = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
STYLES = {
    "body": f"margin:0;padding:0;background:#f3f4f1;color:#1d2420;{_FONT};-webkit-text-size-adjust:100%",
    "page": "background:#f3f4f1;width:100%",
    "frame": "padding:24px 12px",
    "card": "width:100%;max-width:560px;background:#ffffff;border-radius:10px",
    "brand": f"padding:24px 32px 0;{_FONT};font-size:15px;line-height:22px;font-weight:600;color:#3d4a43",
    "inside": f"padding:16px 32px 32px;{_FONT}",
    "heading": "margin:0 0 16px;font-size:26px;line-height:33px;font-weight:650;color:#1d2420",
    "text": "margin:0 0 16px;font-size:16px;line-height:26px;color:#1d2420",
    "action": "margin:8px 0 12px",
    "button": (
        "display:inline-block;padding:12px 22px;background:#1f6f54;color:#ffffff;border-radius:6px;"
        "font-size:16px;line-height:22px;font-weight:600;text-decoration:none"
    ),
    "divider": "border:0;border-top:1px solid #dfe3de;margin:8px 0 24px",
    "foot": f"padding:20px 32px 8px;max-width:496px;{_FONT};font-size:13px;line-height:20px;color:#566059",
    "note": "margin:0 0 8px;font-size:13px;line-height:20px;color:#566059",
    "link": "color:#1f6f54;text-decoration:underline",
}
SHEET = (
    "@media (max-width:480px){.card td{padding-left:20px!important;padding-right:20px!important}}"
    "@media (prefers-color-scheme:dark){body,.page{background:#14181a!important}.card{background:#1d2326!important}"
    ".brand,h1,p{color:#e8ece9!important}.note{color:#a9b4ad!important}.note a,p a{color:#7fd1b1!important}"
    ".action a{background:#7fd1b1!important;color:#10231b!important}hr{border-top-color:#38423d!important}}"
)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def style_sources(page: str) -> list[str]:
    """For the policy of the frame that shows ``page``: exactly the styles our layout put there, whichever release it was.
    Blocks are cleaned before they are laid out, so no style of an author is among them."""
    texts = {html.unescape(text) for text in re.findall(r' style="([^"]*)"', page)}
    texts |= set(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    return ["'unsafe-hashes'", *sorted(_hash(text) for text in texts)]


# The last lines of a message are part of what we say to the customer, not of the interface, so they ship with it.
FOOT = {
    "en": ("You get this because you said yes to news from {shop}.", "Unsubscribe", "Sent by {shop}"),
    "sv": (
        "Du får det här för att du har tackat ja till nyheter från {shop}.",
        "Avsluta prenumerationen",
        "Skickat av {shop}",
    ),
    "nb": ("Du får dette fordi du har sagt ja til nyheter fra {shop}.", "Meld deg av", "Sendt av {shop}"),
    "pl": ("Piszemy, bo zgodziłaś lub zgodziłeś się na wiadomości od {shop}.", "Wypisz się", "Nadawca: {shop}"),
    "cs": ("Píšeme vám, protože jste souhlasili se zprávami od {shop}.", "Odhlásit odběr", "Odesílatel: {shop}"),
}

_INLINE = {"a", "b", "strong", "em", "i", "br", "span"}
_URL = re.compile(r"^(https?://|mailto:|tel:)[^\s<>\"']+$", re.IGNORECASE)


def _clean(segment: str) -> str:
    """Inline HTML that cannot do anything. Text without markup is itself."""
    if "<" not in segment and "&" not in segment:
        return segment
    return nh3.clean(
        segment,
        tags=_INLINE,
        attributes={"a": {"href"}},
        url_schemes={"http", "https", "mailto", "tel"},
        link_rel=None,
    )


_ANCHOR = re.compile(r"<a [^>]*?href=\"([^\"]*)\"[^>]*>(.*?)</a>", re.DOTALL)
_ANY_TAG = re.compile(r"<[^>]+>")


def _as_text(cleaned: str) -> str:
    if "<" not in cleaned and "&" not in cleaned:
        return cleaned
    cleaned = re.sub(r"<br\s*/?>", "\n", _ANCHOR.sub(r"\2 (\1)", cleaned))
    return html.unescape(_ANY_TAG.sub("", cleaned))


def one_line(text: str) -> str:
    """``text`` as it may stand in a header: a line break there would start another header."""
    return " ".join(_LINE_BREAKS.sub(" ", text).split())


@dataclass(frozen=True)
class Made:
    """One message, ready: subject in one line, a whole HTML page, and the same in plain text."""

    subject: str
    html: str
    text: str


class Prepared:
    """A compiled variant. ``make`` turns it into one person's message."""

    def __init__(self, *, language: str, subject: str, blocks: Sequence[Mapping[str, Any]], has_foot: bool) -> None:
        self.language = language if language in FOOT else "en"
        self.has_foot = has_foot
        self.kinds: list[str] = []
        parts: list[str] = []
        if not isinstance(blocks, (list, tuple)) or not blocks:
            raise BrokenTemplate("A template needs at least one block.")
        for number, block in enumerate(blocks, 1):
            kind = block.get("type") if isinstance(block, Mapping) else None
            if kind not in BLOCKS:
                raise BrokenTemplate(f"Block {number} has no known type. Use one of: {', '.join(BLOCKS)}.")
            self.kinds.append(kind)
            if kind == "divider":
                continue
            pieces = [block.get("text"), block.get("url")] if kind == "button" else [block.get("text")]
            for piece in pieces:
                if not isinstance(piece, str) or not piece.strip():
                    raise BrokenTemplate(f"Block {number} ({kind}) is empty. Write its text, or remove the block.")
                # Each piece stands on its own: a condition cannot begin in one block and end in another.
                self._parse(_markup, piece, f"Block {number}")
                parts.append(piece)
        source = _BREAK.join(part.replace(_BREAK, "") for part in parts)
        if len(source) + len(subject) > SOURCE_LIMIT:
            raise BrokenTemplate(f"This text has {len(source)} characters; at most {SOURCE_LIMIT} are allowed.")
        self.pieces = len(parts)
        self.body = self._parse(_markup, source, "The text")
        self.subject = self._parse(_plain, subject, "The subject")

    @staticmethod
    def _parse(environment: Mail, source: str, where: str) -> Any:
        try:
            return environment.from_string(source)
        except (LiquidError, RecursionError) as problem:
            raise BrokenTemplate(f"{where} has a mistake: {one_line(str(problem))}"[:300]) from None

    def make(self, values: Mapping[str, Any]) -> Made:
        """Render for one person. Raises ``BrokenTemplate`` for whatever goes wrong inside the template."""
        try:
            subject = one_line(self.subject.render(**values))[:200]
            pieces = self.body.render(**values).split(_BREAK) if self.pieces else []
        except BrokenTemplate:
            raise
        except Exception as problem:
            # Filters raise whatever Python raises (a date that is none, a division by zero); all of it is the text's.
            raise BrokenTemplate(f"The text cannot be made: {one_line(str(problem))}"[:300]) from None
        if len(pieces) != self.pieces:
            raise BrokenTemplate("The text cannot be made: a block stops the ones after it.")
        if not subject:
            raise BrokenTemplate("The subject is empty for this person.")
        return Made(subject, *self._lay_out(subject, iter(pieces), values))

    def _lay_out(self, subject: str, pieces: Any, values: Mapping[str, Any]) -> tuple[str, str]:
        s = STYLES
        rows: list[str] = []
        lines: list[str] = []
        for kind in self.kinds:
            if kind == "divider":
                rows.append(f'<hr style="{s["divider"]}">')
                lines.append("--------")
                continue
            inside = _clean(next(pieces).strip())
            if kind == "button":
                label, url = _as_text(inside), html.unescape(next(pieces).strip())
                if not _URL.match(url):
                    raise BrokenTemplate(f"A button leads to {url[:80]!r}, which is not a web address.")
                rows.append(
                    f'<p class="action" style="{s["action"]}"><a href="{html.escape(url)}" style="{s["button"]}">'
                    f"{html.escape(label)}</a></p>"
                )
                lines.append(f"{label}: {url}")
            elif not inside:
                continue  # a condition left nothing of this block
            elif kind == "heading":
                rows.append(f'<h1 style="{s["heading"]}">{inside}</h1>')
                lines.append(_as_text(inside))
            else:
                for paragraph in re.split(r"\n\s*\n", inside):
                    with_breaks = paragraph.strip().replace("\n", "<br>")
                    rows.append(f'<p style="{s["text"]}">{with_breaks}</p>')
                    lines.append(_as_text(paragraph.strip()))
        shop = str(values.get("shop", {}).get("name", settings.SHOP_NAME))
        address = str(values.get("shop", {}).get("address", ""))
        why, leave, sender = (text.replace("{shop}", shop) for text in FOOT[self.language])
        foot = f'<p class="note" style="{s["note"]}">{html.escape(sender)}'
        foot += f"<br>{html.escape(address)}</p>" if address else "</p>"
        tail = [f"{sender}, {address}" if address else sender]
        url = str(values.get("unsubscribe_url", ""))
        if self.has_foot and url:
            foot = (
                f'<p class="note" style="{s["note"]}">{html.escape(why)} '
                f'<a href="{html.escape(url)}" style="{s["link"]}">{html.escape(leave)}</a></p>{foot}'
            )
            tail = [why, f"{leave}: {url}", *tail]
        page = (
            f'<!doctype html><html lang="{self.language}"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark"><meta name="supported-color-schemes" content="light dark">'
            f"<title>{html.escape(subject)}</title><style>{SHEET}</style></head>"
            f'<body style="{s["body"]}"><table role="presentation" class="page" width="100%" cellpadding="0" '
            f'cellspacing="0" border="0" style="{s["page"]}"><tr><td align="center" style="{s["frame"]}">'
            f'<table role="presentation" class="card" cellpadding="0" cellspacing="0" border="0" style="{s["card"]}">'
            f'<tr><td class="brand" style="{s["brand"]}">{html.escape(shop)}</td></tr>'
            f'<tr><td style="{s["inside"]}">{"".join(rows)}</td></tr></table>'
            f'<div style="{s["foot"]}">{foot}</div></td></tr></table></body></html>'
        )
        return page, "\n\n".join(lines) + "\n\n-- \n" + "\n".join(tail) + "\n"


def plain(value: Any, depth: int = 0) -> Any:
    """Only strings, numbers, lists and dicts reach a template; control characters never do."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping) and depth < 5:
        return {str(key): plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, (list, tuple)) and depth < 5:
        return [plain(inner, depth + 1) for inner in value[:1000]]
    # ``str(…)`` of a Markup would stay unescaped, so it becomes an ordinary string first.
    text = "".join(value) if isinstance(value, Markup) else str(value)
    return _CONTROL.sub("", text)[:VALUE_LIMIT]


def check(
    *, subject: str, blocks: Sequence[Mapping[str, Any]], language: str = "en", values: Iterable[Mapping[str, Any]]
) -> None:
    """Refuse, with ``BrokenTemplate``, a text that cannot be parsed or cannot be made for one of ``values``."""
    prepared = Prepared(language=language, subject=subject, blocks=blocks, has_foot=True)
    for one in values:
        prepared.make(one)
