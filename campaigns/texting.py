"""From the words of an SMS to the message one person gets: Liquid within the same limits as e-mail, plain text, short links,
and how to stop us at the end.

The stored form is that of every text: no subject, and one block of kind "text" (``MADE_OF``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from campaigns import blocks as blocklist
from campaigns import parts, rendering, tracking
from campaigns.channels import sms
from campaigns.errors import BrokenTemplate
from campaigns.rendering import Made

MADE_OF = "text"
SOURCE_LIMIT = 5_000
"""Characters of Liquid in one text."""

# What is said to the customer ships with the product, as the foot of a mail does. All of it is of the GSM alphabet: the way
# out must not double the price of a text.
REPLY = {
    "en": "Stop? Reply STOP",
    "sv": "Avsluta? Svara STOPP",
    "nb": "Avslutte? Svar STOPP",
    "pl": "Rezygnacja? Odpisz STOP",
    "cs": "Odhlasit? Odpovezte STOP",
}
LINK = {
    "en": "Stop: {url}",
    "sv": "Avsluta: {url}",
    "nb": "Avslutt: {url}",
    "pl": "Stop SMS: {url}",
    "cs": "Stop SMS: {url}",
}

_URL = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)\]]", re.IGNORECASE)
_HTML = re.compile(r"</?[a-z][^<>]*>|&(?:[a-z]{2,8}|#\d{1,5});", re.IGNORECASE)
_SPACES = re.compile(r"[ \t]+(?=\n)")
_MANY_LINES = re.compile(r"\n{3,}")


def read(*, subject: str, blocks: Any) -> str:
    """The Liquid of a text, from how it is stored. Raises ``BrokenTemplate`` for what is no SMS: a subject, other blocks,
    HTML, nothing at all."""
    if subject.strip():
        raise BrokenTemplate(_("An SMS has no subject. Leave it out."), field="subject")
    checked = blocklist.read(blocks)
    if len(checked) != 1 or checked[0]["type"] != MADE_OF or "when" in checked[0]:
        raise BrokenTemplate(_("An SMS is one text: one block of type “text” that is always shown."))
    words = str(checked[0]["text"])
    if found := _HTML.search(words):
        raise BrokenTemplate(
            _("An SMS is plain words: take “%(piece)s” out.") % {"piece": found[0][:40]}, block=0, field="text"
        )
    if len(words) > SOURCE_LIMIT:
        raise BrokenTemplate(
            _("This text has %(n)d characters; at most %(most)d are allowed.")
            % {"n": len(words), "most": SOURCE_LIMIT},
            block=0,
            field="text",
        )
    return words


def stored(words: str) -> list[dict[str, Any]]:
    """The words of an SMS as they are stored."""
    return [{"type": MADE_OF, "text": words}]


@dataclass(frozen=True, slots=True)
class Filled:
    """One person's SMS before it has a number. ``pieces`` are words and addresses in turn, beginning with words."""

    pieces: tuple[str, ...]
    foot: str
    subject: str = ""

    def html(self) -> str:
        """There is none."""
        return ""

    def text(self, link: Callable[[str], str] = str) -> str:
        """As it goes on the air, each address led through ``link``."""
        words = "".join(link(piece) if number % 2 else piece for number, piece in enumerate(self.pieces))
        return f"{words}\n{self.foot}" if self.foot else words

    def urls(self) -> list[str]:
        """Every web address in it, in order, each once."""
        return list(dict.fromkeys(self.pieces[1::2]))


class Prepared:
    """A compiled text. ``fill`` turns it into one person's SMS."""

    def __init__(self, *, language: str, subject: str, blocks: Sequence[Mapping[str, Any]], has_foot: bool) -> None:
        self.language = language if language in REPLY else "en"
        self.has_foot = has_foot
        made = rendering.parse(read(subject=subject, blocks=blocks), where=_("The text"), block=0, is_plain=True)
        self.words = rendering.Remembered([made], lambda values: _tidy(made.render(**values)))

    def fill(self, values: Mapping[str, Any]) -> Filled:
        """Render for one person. Raises ``BrokenTemplate`` for whatever goes wrong inside the template."""
        try:
            words = self.words(values)
        except BrokenTemplate:
            raise
        except Exception as problem:
            # Filters raise whatever Python raises; all of it is the text's.
            raise BrokenTemplate(f"The text cannot be made: {rendering.one_line(str(problem))}"[:300]) from None
        if not words:
            raise BrokenTemplate(_("The text is empty for this person."))
        way_out = str(values.get("unsubscribe_url", "")) if self.has_foot else ""
        filled = Filled(_pieces(words), self._foot(way_out) if way_out else "")
        too_long(parts.measure(filled.text()))
        return filled

    def leads(self, url: str) -> bool:
        """Whether an address in it becomes a short link of ours. Service notices are not tracked."""
        return self.has_foot and tracking.is_tracked(url)

    def _foot(self, way_out: str) -> str:
        return REPLY[self.language] if sms.takes_replies() else LINK[self.language].format(url=way_out)

    def make(self, values: Mapping[str, Any], link: Callable[[str], str] = str) -> Made:
        """The message as a person reads it, its addresses led through ``link``. Raises ``BrokenTemplate``."""
        filled = self.fill(values)
        return Made("", "", filled.text(), parts.measure(filled.text(link)))


def too_long(measured: parts.Measured) -> None:
    """Refuse, with ``BrokenTemplate``, what takes too many parts."""
    if measured.parts > parts.MOST:
        sentence = ngettext(
            "This text takes %(n)d part; an SMS has at most %(most)d. Shorten it.",
            "This text takes %(n)d parts; an SMS has at most %(most)d. Shorten it.",
            measured.parts,
        )
        raise BrokenTemplate(sentence % {"n": measured.parts, "most": parts.MOST}, block=0, field="text")


def urls_of(words: str) -> list[str]:
    """The web addresses that stand in plain words."""
    return _URL.findall(words)


def _tidy(words: str) -> str:
    words = words.replace("\r\n", "\n").replace("\r", "\n")
    return _MANY_LINES.sub("\n\n", _SPACES.sub("", words)).strip()


def _pieces(words: str) -> tuple[str, ...]:
    pieces, at = [], 0
    for found in _URL.finditer(words):
        pieces += [words[at : found.start()], found[0]]
        at = found.end()
    return (*pieces, words[at:])
