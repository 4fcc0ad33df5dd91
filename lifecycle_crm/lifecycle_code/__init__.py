"""Lifecycle as code: stages, rules, segments, programmes and journeys as one YAML file, to review, to carry elsewhere and
to test.

The text is always the same for the same shop: sections, keys and lists have one order, whatever the database keeps. A
section that a file leaves out is not compared and not touched. Lists of people (static segments) travel by name only, and
of programmes their terms, tiers and earning rules: not who is in them.

Rules of stages and steps of journeys become drafts, which change nothing until they are published. The shop's own words for
stages, the conditions of segments, programmes and the terms of journeys have no drafts; they change at once, all or none,
together with the drafts.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from django.db import transaction

from lifecycle_crm.accounts.models import User
from lifecycle_crm.lifecycle_code import examples, journeys, programmes, rules, segments, stages
from lifecycle_crm.lifecycle_code.examples import Result, counted
from lifecycle_crm.lifecycle_code.text import FORMAT, BadFile, Document, read, write
from stages.models import RuleSet

_LISTS = {"segments": segments, "programmes": programmes, "journeys": journeys}
_SECTIONS = {"stages": stages, "rules": rules, **_LISTS}


def exported(version: int | None = None) -> dict[str, Any]:
    """The shop's lifecycle: its own words for the stages, the rules in force (or one version of them), and so on."""
    data: dict[str, Any] = {"lifecycle": FORMAT, "stages": stages.exported()}
    if (found := rules.exported(version)) is not None:
        data["rules"] = found
    return data | {name: section.exported() for name, section in _LISTS.items()}


def export(version: int | None = None) -> str:
    """``exported`` as text."""
    return write(exported(version))


def diff(document: Document) -> str:
    """What would change if the file were imported and published, as a unified diff; empty when nothing would.

    Examples belong to the file alone. Sections that the file leaves out are not compared.
    """
    _check(document)
    theirs = _canonical(document)
    mine = {key: part for key, part in exported().items() if key in theirs}
    lines = difflib.unified_diff(
        write(mine).splitlines(keepends=True), write(theirs).splitlines(keepends=True), "the shop", document.name
    )
    return "".join(lines)


def _check(document: Document) -> None:
    """Raise ``BadFile`` for the first thing that could not be imported, as far as the file alone can tell."""
    for section in _SECTIONS.values():
        section.check(document)


def _canonical(document: Document) -> dict[str, Any]:
    """The document's sections as an export would write them."""
    found = {name: section.canonical(document) for name, section in _SECTIONS.items() if name in document.data}
    return {"lifecycle": FORMAT, **found}


@dataclass
class Imported:
    """What an import did, one sentence each, and the draft it made, if any."""

    told: list[str] = field(default_factory=list)
    draft: RuleSet | None = None


def load(
    *,
    document: Document,
    actor: User | None = None,
    dry_run: bool = False,
    publish: bool = False,
    confirm: str | int = "",
) -> Imported:
    """Write the file into the shop, all or nothing; with ``dry_run`` only tell.

    Rules that differ become a draft; with ``publish`` it is put in force, quietly. Above the brake ``confirm`` must be the
    number of customers who would move. Journeys are published by a person, never from here: that lets people in. Segments,
    programmes and journeys that the file does not name stay. Raises ``BadFile`` and whatever the verbs refuse.
    """
    _check(document)
    found = Imported()
    with transaction.atomic():
        if "stages" in document.data:
            stages.load(document, found.told)
        if "segments" in document.data:
            segments.load(document, actor, found.told)
        if "rules" in document.data:
            found.draft = rules.load(document, actor, found.told)
        if publish and found.draft is not None:
            rules.publish(found.draft, actor, confirm, found.told)
        # Their rules may name stages, segments and tiers.
        if "programmes" in document.data:
            programmes.load(document, actor, found.told)
        if "journeys" in document.data:
            journeys.load(document, actor, found.told)
        if dry_run:
            found.draft = None
            transaction.set_rollback(True)
    if not found.told:
        found.told.append("The shop is as the file says. Nothing to do.")
    return found


def examine(document: Document, on: date) -> list[Result]:
    """Ask the file's rules (or those in force, if it has none) about its examples, as of the end of ``on``.

    An example is made up (``facts``, and ``did`` with dates by event) or a customer of the shop (``customer``, a number),
    whose facts are worked out as they were known then; nothing is kept. Raises ``BadFile``.
    """
    _check(document)
    return examples.examine(document, on)


__all__ = ["BadFile", "Document", "Imported", "Result", "counted", "diff", "examine", "export", "load", "read"]
