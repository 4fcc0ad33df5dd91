"""The texts of the playbooks as they are installed: key to (name, purpose, language to (subject, blocks))."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _

from campaigns.models import Purpose
from campaigns.playbooks import cs, en, nb, pl, sv

Words = tuple[str, str, tuple[str, ...], str]
"""Subject, heading, paragraphs, and the words of the button; "" for none."""

HELLO = "{% if customer.given_name != '' %}{{ customer.given_name }}, {% endif %}"
_LANGUAGES: dict[str, dict[str, Words]] = {
    "en": en.WORDS, "sv": sv.WORDS, "nb": nb.WORDS, "pl": pl.WORDS, "cs": cs.WORDS,
}  # fmt: skip
_NAMES: dict[str, tuple[Any, str]] = {
    "welcome": (_("Welcome"), Purpose.MARKETING),
    "first-order": (_("Help with the first order"), Purpose.MARKETING),
    "care": (_("Care after the purchase"), Purpose.SERVICE),
    "cross-sell": (_("The second order"), Purpose.MARKETING),
    "replenish": (_("Time for more"), Purpose.MARKETING),
    "at-risk": (_("Going quiet"), Purpose.MARKETING),
    "birthday": (_("Birthday"), Purpose.MARKETING),
    "rescue": (_("After a bad answer"), Purpose.SERVICE),
    "vip": (_("The highest tier"), Purpose.MARKETING),
    "review": (_("Ask for a review"), Purpose.MARKETING),
    "referral": (_("Ask for a recommendation"), Purpose.MARKETING),
    "winback": (_("Win-back with points"), Purpose.MARKETING),
    "sunset": (_("A last word"), Purpose.MARKETING),
}


def _blocks(heading: str, paragraphs: tuple[str, ...], button: str) -> list[dict[str, str]]:
    blocks = [{"type": "heading", "text": HELLO + heading}]
    blocks += [{"type": "text", "text": text} for text in paragraphs]
    if button:
        blocks.append({"type": "button", "text": button, "url": "{{ shop.url }}"})
    return blocks


WORDS: dict[str, tuple[Any, str, dict[str, tuple[str, list[dict[str, str]]]]]] = {
    f"playbook-{key}": (
        name,
        purpose,
        {
            language: (words[key][0], _blocks(words[key][1], words[key][2], words[key][3]))
            for language, words in _LANGUAGES.items()
        },
    )
    for key, (name, purpose) in _NAMES.items()
}
