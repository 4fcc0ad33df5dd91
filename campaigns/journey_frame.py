"""What the pages of a journey share: which one it is, its head and tabs, and its steps as lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from campaigns import texts
from campaigns.journey_forms import KINDS
from campaigns.journey_step_forms import STEPS
from campaigns.journeys import publishing, reading, results, words
from campaigns.models import Campaign, Journey, Template
from lifecycle_crm.accounts.callers import may
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib.errors import NotFound
from lifecycle_crm.templatetags.crm import num, pct

PAGE = 50
"""Rows of a list."""


def journey_of(pk: int) -> Journey:
    """Raises ``NotFound``."""
    journey = Journey.objects.filter(pk=pk).first()
    if journey is None:
        raise NotFound(_("There is no such journey."))
    return journey


def crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    """The way back, from (label, address) of what follows the list; an empty address is no link."""
    first = {"label": _("Journeys"), "url": reverse("campaigns:journeys")}
    return [first, *({"label": label, "url": url} if url else {"label": label} for label, url in more)]


def frame(request: HttpRequest, journey: Journey, here: str) -> dict[str, Any]:
    """What every tab of a journey has."""
    tabs = (
        ("journey", _("Build")),
        ("journey-map", _("Map")),
        ("journey-people", _("People")),
        ("journey-results", _("Results")),
        ("journey-versions", _("Versions")),
        ("journey-settings", _("Settings")),
        ("journey-try", _("Try")),
    )
    return {
        "journey": journey,
        "tabs": [
            {"label": label, "url": reverse(f"campaigns:{name}", args=[journey.pk]), "active": name == here}
            for name, label in tabs
        ],
        "crumbs": crumbs((journey.name, "")),
        "may_steer": may(request, User.may_steer),
        "stopped": _stopped(journey),
        "quiet_steps": journey.campaigns.filter(state=Campaign.State.PAUSED)
        if journey.state == Journey.State.LIVE
        else [],
    }


def _stopped(journey: Journey) -> str:
    """Why it stopped by itself, as a sentence."""
    why = journey.guard
    if journey.state != Journey.State.PAUSED or not why:
        return ""
    if "problem" in why:
        return str(why["problem"])
    return _("A night would have let in %(people)s of %(all)s customers, far more than usual. Nobody was let in.") % {
        "people": num(why["people"]),
        "all": num(why["customers"]),
    }


def share(part: int, whole: int) -> str:
    """A part of a whole in per cent; empty when there is none."""
    return pct(part / whole, 1) if whole else ""


class Lines:
    """The steps as the page shows them: sentence, number, who waits, what is wrong, the ways of a split."""

    def __init__(self, journey: Journey, problems: Mapping[str, str]) -> None:
        self.inside = publishing.inside_by_step(journey) if journey.version else {}
        self.passed = results.steps_taken(journey) if journey.version else {}
        self.texts = dict(Template.objects.values_list("key", "name"))
        self.problems = problems

    def people(self, pk: str) -> str:
        """How many stand in a step and how many passed it; empty when nobody did."""
        here, passed = self.inside.get(pk, 0), self.passed.get(pk, 0)
        return (
            _("%(here)s here, %(passed)s passed") % {"here": num(here), "passed": num(passed)} if here or passed else ""
        )

    def words_url(self, step: Mapping[str, Any]) -> str:
        """Where the words of a message are written, in the language of who reads."""
        key = step.get("template", "")
        language = get_language() or ""
        known = language if language in texts.LANGUAGES else settings.LANGUAGE_CODE
        return reverse("campaigns:template", args=[key, known]) if key in self.texts else ""

    def lines(self, steps: Any, number: str) -> list[dict[str, Any]]:
        return [
            self.line(step, f"{number}{n}", n, len(steps)) for n, step in enumerate(steps, 1) if isinstance(step, dict)
        ]

    def line(self, step: Mapping[str, Any], number: str, at: int, of: int) -> dict[str, Any]:
        pk = step.get("id", "")
        ways = []
        if step.get("do") in reading.WITH_WAYS:
            branches = step.get("branches", [])
            for n in (*range(len(branches)), -1):
                letter = chr(ord("a") + (n if n >= 0 else len(branches)) % 26)
                way = branches[n].get("steps", []) if n >= 0 else step.get("else", [])
                ways.append(
                    {"number": n, "name": words.branch(step, n), "lines": self.lines(way, f"{number}{letter}"),
                     "place": f"in:{pk}:{n}", "can_go": n >= 0 and len(branches) > 1}
                )  # fmt: skip
        return {
            "id": pk,
            "number": number,
            "do": str(step.get("do", "")),
            "people": self.people(pk),
            "kind": dict(KINDS).get(str(step.get("do")), ""),
            "sentence": words.step(step, self.texts),
            "problem": self.problems.get(pk, ""),
            "inside": self.inside.get(pk, 0),
            "passed": self.passed.get(pk, 0),
            "ways": ways,
            "can_branch": bool(ways) and step.get("do") != "task_done",
            "place": f"after:{pk}",
            "can_edit": step.get("do") in STEPS,
            "words_url": self.words_url(step),
            "is_first": at == 1,
            "is_last": at == of,
        }


def tree_in_force(journey: Journey) -> dict[str, Any]:
    """The newest version, or the draft before there is one."""
    newest = journey.versions.order_by("-number").values_list("tree", flat=True).first()
    return newest or journey.draft


def nested_in_force(journey: Journey) -> list[dict[str, Any]]:
    """The steps in force, the ways of a split inside it."""
    return Lines(journey, {}).lines(tree_in_force(journey).get("steps", []), "")


def lines_in_force(journey: Journey) -> list[dict[str, Any]]:
    """The same one after the other, those of the ways of a split after it."""
    return _flat(nested_in_force(journey))


def sentences(journey: Journey) -> dict[str, str]:
    """What each step of the version in force does, by its id."""
    return {line["id"]: line["sentence"] for line in lines_in_force(journey)}


def _flat(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for line in lines for one in (line, *(x for way in line["ways"] for x in _flat(way["lines"])))]
