"""How a message looks: our own frame, the rows inside it, and the same in plain text.

A row is made once per distinct content and kept, with the addresses in it apart (``Url``), so that every message can lead
through its own links. The frame is made once per shop. What goes on the wire is joined from pieces that were encoded when
they were made: quoted-printable lines may be broken anywhere with a soft break, so pieces are encoded one by one.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import nh3

from campaigns.channels.email import joined, quoted
from campaigns.errors import BrokenTemplate

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
    "picture": "margin:0 0 16px",
    "image": "display:block;width:100%;max-width:496px;height:auto;border:0;border-radius:6px",
    "thumb": "display:block;width:100%;height:auto;border:0;border-radius:6px",
    "columns": "width:100%;margin:0 0 8px",
    "left": "width:50%;padding:0 8px 0 0;vertical-align:top",
    "right": "width:50%;padding:0 0 0 8px;vertical-align:top",
    "number": "margin:0;font-size:32px;line-height:40px;font-weight:700;color:#1f6f54",
    "divider": "border:0;border-top:1px solid #dfe3de;margin:8px 0 24px",
    "foot": f"padding:20px 32px 8px;max-width:496px;{_FONT};font-size:13px;line-height:20px;color:#566059",
    "note": "margin:0 0 8px;font-size:13px;line-height:20px;color:#566059",
    "link": "color:#1f6f54;text-decoration:underline",
}
SHEET = (
    "@media (max-width:480px){.card td{padding-left:20px!important;padding-right:20px!important}"
    ".card td.col{display:block!important;width:100%!important;padding:0 0 8px!important;box-sizing:border-box}}"
    "@media (prefers-color-scheme:dark){body,.page{background:#14181a!important}.card{background:#1d2326!important}"
    ".brand,h1,p{color:#e8ece9!important}.note{color:#a9b4ad!important}.note a,p a,p.number{color:#7fd1b1!important}"
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


_IMAGE = re.compile(r'<img src="([^"?#;,\s]+)[^"]*" alt="[^"]*" width="')


def image_sources(page: str) -> list[str]:
    """For the policy of the same frame: exactly the pictures our layout put there. The dot that tells of an opened message
    is none of them, so nobody of the team opens a message by looking at it."""
    return sorted({html.unescape(address) for address in _IMAGE.findall(page)})


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
_WEB = re.compile(r"^https?://", re.IGNORECASE)
_HREF = re.compile(r'href="([^"]*)"')
_ANCHOR = re.compile(r"<a [^>]*?href=\"([^\"]*)\"[^>]*>(.*?)</a>", re.DOTALL)
_ANY_TAG = re.compile(r"<[^>]+>")
MARK = "\x1d"
"""Stands for an address while a row is made; stripped from everything that comes in."""
_MARKED = re.compile(f"{MARK}(\\d+){MARK}")


class Url(str):
    """A web address in a row: the place where a message puts its own link."""

    __slots__ = ()


Parts = tuple[str, ...]
"""Text with ``Url`` where an address stands."""
Wire = tuple[bytes | Url, ...]
"""The same, encoded; the addresses still to come."""


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


def as_text(cleaned: str) -> str:
    if "<" not in cleaned and "&" not in cleaned:
        return cleaned
    cleaned = re.sub(r"<br\s*/?>", "\n", _ANCHOR.sub(r"\2 (\1)", cleaned))
    return html.unescape(_ANY_TAG.sub("", cleaned))


def _wire(parts: Parts) -> Wire:
    return tuple(part if isinstance(part, Url) else quoted(part) for part in parts)


# --- Rows ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """What one block became: HTML and plain text, as they are and as they go on the wire."""

    html: Parts
    text: Parts
    html_wire: Wire
    text_wire: Wire

    @property
    def urls(self) -> list[str]:
        return [str(part) for part in self.html if isinstance(part, Url)]


class _Marks:
    """The addresses of a row while it is made; each leaves a mark where it belongs."""

    __slots__ = ("urls",)

    def __init__(self) -> None:
        self.urls: list[str] = []

    def of(self, url: str) -> str:
        self.urls.append(url)
        return f"{MARK}{len(self.urls) - 1}{MARK}"

    def inline(self, rendered: str) -> str:
        """Inline HTML, its addresses marked."""
        return _HREF.sub(self._kept, _clean(rendered.strip()))

    def _kept(self, found: re.Match[str]) -> str:
        url = html.unescape(found[1])
        return f'href="{self.of(url)}"' if _WEB.match(url) else found[0]


def _paragraphs(inside: str) -> tuple[str, str]:
    paragraphs = [one.strip() for one in re.split(r"\n\s*\n", inside)]
    page = "\n".join(f'<p style="{STYLES["text"]}">{one.replace(chr(10), "<br>")}</p>' for one in paragraphs)
    return page, "\n\n".join(as_text(one) for one in paragraphs)


def _address(rendered: str, sentence: str) -> str:
    url = html.unescape(rendered.strip())
    if not _URL.match(url):
        raise BrokenTemplate(sentence.format(repr(url[:80])))
    return url


def _picture(description: str, address: str, style: str, width: int) -> tuple[str, str]:
    url = _address(address, "A picture is at {}, which is not a web address.")
    if not _WEB.match(url):
        raise BrokenTemplate(f"A picture is at {url[:80]!r}, which is not a web address.")
    alt = as_text(_clean(description.strip())).replace("\n", " ")
    return f'<img src="{html.escape(url)}" alt="{html.escape(alt)}" width="{width}" style="{style}">', alt


def row(kind: str, *pieces: str) -> Row | None:
    """The row of a block from what its Liquid gave, in the order of ``blocks.liquid``; ``None`` when nothing is left of it.

    Raises ``BrokenTemplate`` for a button that leads nowhere and a picture that is nowhere.
    """
    s, marks = STYLES, _Marks()
    if kind == "button":
        label = as_text(_clean(pieces[0].strip()))
        url = _address(pieces[1], "A button leads to {}, which is not a web address.")
        to = marks.of(url) if _WEB.match(url) else html.escape(url)
        page = (
            f'<p class="action" style="{s["action"]}"><a href="{to}" style="{s["button"]}">{html.escape(label)}</a></p>'
        )
        text = f"{label}: {to if _WEB.match(url) else url}"
    elif kind == "divider":
        page, text = f'<hr style="{s["divider"]}">', "--------"
    elif kind == "image":
        image, text = _picture(pieces[0], pieces[1], s["image"], 496)
        text = f"[{text}]" if text else ""
        if pieces[2].strip():
            url = _address(pieces[2], "A picture leads to {}, which is not a web address.")
            to = marks.of(url) if _WEB.match(url) else html.escape(url)
            image = f'<a href="{to}">{image}</a>'
            text = f"{text} ({to if _WEB.match(url) else url})".strip()
        page = f'<p style="{s["picture"]}">{image}</p>'
    elif kind == "columns":
        page, text = _columns(marks, pieces)
    elif kind in ("points", "tier"):
        words, value = marks.inline(pieces[0]), pieces[1].strip()
        if not value:
            return None
        number = f'<p class="number" style="{s["number"]}">{value}</p>'
        label = f'<p style="{s["text"]}">{words}</p>'
        said = as_text(words), html.unescape(value)
        page = f"{number}\n{label}" if kind == "points" else f"{label}\n{number}"
        text = f"{said[1]} {said[0]}" if kind == "points" else f"{said[0]}: {said[1]}"
    else:
        inside = marks.inline(pieces[0])
        if not inside:
            return None
        if kind == "heading":
            page, text = f'<h1 style="{s["heading"]}">{inside}</h1>', as_text(inside)
        else:
            page, text = _paragraphs(inside)
    both = _split(page + "\n", marks.urls), _split(text + "\n\n", marks.urls)
    return Row(*both, *(_wire(parts) for parts in both))


def _columns(marks: _Marks, pieces: tuple[str, ...]) -> tuple[str, str]:
    """Two cells side by side, one under the other on a narrow screen."""
    s, cells, texts = STYLES, [], []
    for side, (words, address, description) in (("left", pieces[:3]), ("right", pieces[3:])):
        inner, text = _paragraphs(marks.inline(words))
        if address.strip():
            image, alt = _picture(description, address, s["thumb"], 240)
            inner = f'<p style="{s["picture"]}">{image}</p>\n{inner}'
            text = f"[{alt}]\n{text}"
        cells.append(f'<td class="col" width="50%" valign="top" style="{s[side]}">{inner}</td>')
        texts.append(text)
    page = (
        f'<table role="presentation" class="columns" width="100%" cellpadding="0" cellspacing="0" border="0" '
        f'style="{s["columns"]}"><tr>{"".join(cells)}</tr></table>'
    )
    return page, "\n\n".join(texts)


def _split(text: str, urls: list[str]) -> Parts:
    pieces = _MARKED.split(text)
    return tuple(Url(urls[int(piece)]) if n % 2 else piece for n, piece in enumerate(pieces) if n % 2 or piece)


# --- The frame ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything around the rows, in the order in which it is said. The gaps are subject, rows and the way out."""

    top: str
    middle: str
    foot: str
    end: str
    text_end: str
    text_after: str
    wire: tuple[bytes, bytes, bytes, bytes, bytes, bytes]


@lru_cache(maxsize=64)
def frame(language: str, shop: str, address: str, has_way_out: bool) -> Frame:
    """The frame of a shop's messages in one language, with or without a way out in its foot."""
    s = STYLES
    why, leave, sender = (text.replace("{shop}", shop) for text in FOOT[language])
    note = f'<p class="note" style="{s["note"]}">'
    top = (
        f'<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark"><meta name="supported-color-schemes" content="light dark">\n<title>'
    )
    middle = (
        f"</title>\n<style>{SHEET}</style></head>\n"
        f'<body style="{s["body"]}"><table role="presentation" class="page" width="100%" cellpadding="0" '
        f'cellspacing="0" border="0" style="{s["page"]}"><tr><td align="center" style="{s["frame"]}">\n'
        f'<table role="presentation" class="card" cellpadding="0" cellspacing="0" border="0" style="{s["card"]}">\n'
        f'<tr><td class="brand" style="{s["brand"]}">{html.escape(shop)}</td></tr>\n<tr><td style="{s["inside"]}">\n'
    )
    foot = f'</td></tr></table>\n<div style="{s["foot"]}">'
    end, text_end, text_after = "", "-- \n", ""
    if has_way_out:
        foot += f'{note}{html.escape(why)} <a href="'
        end = f'" style="{s["link"]}">{html.escape(leave)}</a></p>\n'
        text_end += f"{why}\n{leave}: "
        text_after = "\n"
    end += f"{note}{html.escape(sender)}" + (f"<br>{html.escape(address)}</p>" if address else "</p>")
    end += "</div></td></tr></table></body></html>\n"
    text_after += (f"{sender}, {address}" if address else sender) + "\n"
    texts = (top, middle, foot, end, text_end, text_after)
    a, b, c, d, e, f = (quoted(text) for text in texts)
    return Frame(*texts, (a, b, c, d, e, f))


@dataclass(frozen=True, slots=True)
class Filled:
    """One person's message before it has an address: subject, rows, frame and their way out."""

    subject: str
    rows: tuple[Row, ...]
    frame: Frame
    way_out: str

    def html(self, link: Callable[[str], str] = str, extra: str = "") -> str:
        """The page, with each address led through ``link`` and ``extra`` behind the rows."""
        inner = "".join(
            html.escape(link(part)) if isinstance(part, Url) else part for row in self.rows for part in row.html
        )
        f = self.frame
        return f"{f.top}{html.escape(self.subject)}{f.middle}{inner}{extra}{f.foot}{html.escape(self.way_out)}{f.end}"

    def text(self, link: Callable[[str], str] = str) -> str:
        inner = "".join(link(part) if isinstance(part, Url) else part for row in self.rows for part in row.text)
        return f"{inner}{self.frame.text_end}{self.way_out}{self.frame.text_after}"

    def urls(self) -> list[str]:
        """Every web address in it, in order, each once."""
        return list(dict.fromkeys(url for row in self.rows for url in row.urls))

    def wire(self, link: Callable[[str], str] = str, extra: str = "") -> tuple[bytes, bytes]:
        """(plain text, HTML), quoted-printable."""
        top, middle, foot, end, text_end, text_after = self.frame.wire
        way_out = quoted(self.way_out)
        known = {url: quoted(link(url)) for url in self.urls()}
        texts: list[bytes] = []
        pages = [top, quoted(html.escape(self.subject)), middle]
        for one in self.rows:
            texts += [known[part] if isinstance(part, Url) else part for part in one.text_wire]
            pages += [
                (known[part] if "&" not in part else quoted(html.escape(link(part)))) if isinstance(part, Url) else part
                for part in one.html_wire
            ]
        if extra:
            pages.append(quoted(extra))
        pages += [foot, way_out, end]
        return joined([*texts, text_end, way_out, text_after]), joined(pages)
