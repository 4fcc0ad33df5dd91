"""The translations: every language says the same things, says all of them, and leaves no customer with English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TEMPLATES = ROOT / "templates"
LANGUAGES = ("sv", "nb", "pl", "cs")
Key = tuple[str, str, str]
"""Context, text and plural; empty where there is none."""


class Entry:
    """One entry of a catalogue, as gettext reads it."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self.is_fuzzy = False

    @property
    def key(self) -> Key:
        return self.parts.get("msgctxt", ""), self.parts.get("msgid", ""), self.parts.get("msgid_plural", "")

    @property
    def forms(self) -> list[str]:
        return [text for name, text in self.parts.items() if name.startswith("msgstr")]


def entries(text: str) -> Iterator[Entry]:
    for block in re.split(r"\n\s*\n", text):
        entry, name = Entry(), ""
        for line in block.splitlines():
            if line.startswith("#"):
                entry.is_fuzzy |= line.startswith("#,") and "fuzzy" in line
            elif found := re.match(r'(msg\w+(?:\[\d\])?) (".*")$', line):
                name = found.group(1)
                assert name not in entry.parts, f"no empty line before {line}"
                entry.parts[name] = ast.literal_eval(found.group(2))
            else:
                entry.parts[name] += ast.literal_eval(line)
        if entry.key[1]:
            yield entry


def catalogue(language: str) -> dict[Key, Entry]:
    path = ROOT / "lifecycle_crm" / "locale" / language / "LC_MESSAGES" / "django.po"
    found: dict[Key, Entry] = {}
    for entry in entries(path.read_text(encoding="utf-8")):
        assert entry.key not in found, f"{language}: twice {entry.key}"
        found[entry.key] = entry
    return found


CATALOGUES = {language: catalogue(language) for language in (*LANGUAGES, "en")}


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"%\(\w+\)[a-z]|%%|%[sd]|\{\w*\}", text))


@pytest.mark.parametrize("language", [*LANGUAGES, "en"])
def test_it_has_the_texts_that_the_others_have(language: str) -> None:
    every = set().union(*CATALOGUES.values())
    assert len(every) > 300
    assert every - set(CATALOGUES[language]) == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_has_no_guess_and_nothing_empty(language: str) -> None:
    forms = {"sv": 2, "nb": 2, "pl": 4, "cs": 4}[language]
    for key, entry in CATALOGUES[language].items():
        assert not entry.is_fuzzy, key
        assert all(text.strip() for text in entry.forms), key
        assert len(entry.forms) == (forms if key[2] else 1), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_keeps_every_placeholder(language: str) -> None:
    for key, entry in CATALOGUES[language].items():
        first, *others = entry.forms
        assert placeholders(first) == placeholders(key[1]), key
        for text in others:
            assert placeholders(text) == placeholders(key[2]), key


@pytest.mark.parametrize(
    "plant, complaint",
    [
        ('#, fuzzy\nmsgid "Yes"\nmsgstr "Ja"', "fuzzy"),
        ('msgid "Yes"\nmsgstr ""', "empty"),
        ('msgid "%(n)s left"\nmsgstr "kvar"', "placeholder"),
        ('msgid "Yes"\nmsgstr "Ja"\n\nmsgid "No"\nmsgstr "Nej"', ""),
    ],
)
def test_it_sees_what_is_wrong(plant: str, complaint: str) -> None:
    found = list(entries(plant))
    wrong = {
        "fuzzy": any(entry.is_fuzzy for entry in found),
        "empty": any(not text for entry in found for text in entry.forms),
        "placeholder": any(
            text and placeholders(text) != placeholders(entry.key[1]) for entry in found for text in entry.forms
        ),
    }
    assert [name for name, is_so in wrong.items() if is_so] == ([complaint] if complaint else [])


# --- What customers read ----------------------------------------------------------------------------------------------


def public_templates() -> list[Path]:
    """The pages that extend public.html, and all that they include."""
    waiting = [path for path in TEMPLATES.rglob("*.html") if '{% extends "public.html" %}' in path.read_text("utf-8")]
    waiting.append(TEMPLATES / "public.html")
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [TEMPLATES / name for name in re.findall(r'{% include "([^"]+)"', path.read_text("utf-8"))]
    return sorted(found)


def said(template: str) -> Iterator[Key]:
    """The texts of a template, as makemessages finds them."""
    for found in re.finditer(r"{% translate (\"[^\"]*\"|'[^']*')(.*?)%}", template):
        context = re.search(r'context "([^"]*)"', found.group(2))
        yield context.group(1) if context else "", ast.literal_eval(found.group(1)), ""
    for found in re.finditer(r"{% blocktranslate(.*?)%}(.*?){% endblocktranslate %}", template, re.S):
        context = re.search(r'context "([^"]*)"', found.group(1))
        texts = re.split(r"{% plural %}", found.group(2))
        if " trimmed" in found.group(1):
            texts = [" ".join(line.strip() for line in text.strip().splitlines()) for text in texts]
        one, many = [re.sub(r"{{ *(\w+) *}}", r"%(\1)s", text.replace("%", "%%")) for text in [*texts, ""][:2]]
        yield context.group(1) if context else "", one, many


def test_the_texts_of_a_template_are_found() -> None:
    assert list(said('{% translate "Noted" context "x" %} {% translate \'A "b"\' as text %}')) == [
        ("x", "Noted", ""),
        ("", 'A "b"', ""),
    ]
    counted = "{% blocktranslate count n=a with b=c|num %}{{ b }} at 5%{% plural %}{{ b }}s{% endblocktranslate %}"
    assert list(said(counted)) == [("", "%(b)s at 5%%", "%(b)ss")]


def test_the_public_pages_are_all_looked_at() -> None:
    names = {path.relative_to(TEMPLATES).as_posix() for path in public_templates()}
    assert {
        "404.html", "410.html", "campaigns/unsubscribe.html", "feedback/survey.html", "loyalty/plain.html",
        "loyalty/referral_public.html", "loyalty/wallet.html", "registration/sign_in.html",
    } <= names  # fmt: skip


@pytest.mark.parametrize("path", public_templates(), ids=lambda path: path.relative_to(TEMPLATES).as_posix())
@pytest.mark.parametrize("language", LANGUAGES)
def test_customers_read_every_page_in_their_language(path: Path, language: str) -> None:
    assert set(said(path.read_text(encoding="utf-8"))) - set(CATALOGUES[language]) == set()


def called(source: str) -> Iterator[Key]:
    """The texts that Python code hands to gettext."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            texts = [str(one.value) for one in node.args if isinstance(one, ast.Constant)]
            match node.func.id.removesuffix("_lazy"), texts:
                case "_" | "gettext", [text]:
                    yield "", text, ""
                case "ngettext", [one, many]:
                    yield "", one, many
                case "pgettext", [context, text]:
                    yield context, text, ""


def test_the_texts_of_code_are_found() -> None:
    source = '_("a"), ngettext("b", "c", n), pgettext("d", "e"), f"{_(\'f\')}"'
    assert set(called(source)) == {("", "a", ""), ("", "b", "c"), ("d", "e", ""), ("", "f", "")}


@pytest.mark.parametrize(
    "name",
    ["campaigns/links.py", "campaigns/public.py", "customers/sentences.py", "loyalty/queries.py", "loyalty/sentences.py",
     "loyalty/wallet.py", "loyalty/wallet_pages.py", "stages/evidence.py"],
)  # fmt: skip
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_sentences_about_points_and_moves_are_in_every_language(name: str, language: str) -> None:
    source = (ROOT / name).read_text(encoding="utf-8")
    assert set(called(source)) - set(CATALOGUES[language]) == set()
