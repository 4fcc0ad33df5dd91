"""What an experiment says, as one reads it: the sentence of its verdict, three plain numbers, the answer before it starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from babel.dates import format_date
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from campaigns.experiments.asking import Answer
from campaigns.experiments.reading import Progress
from campaigns.models import Campaign, Experiment, ExperimentVerdict, ExperimentVersion
from lifecycle_crm.templatetags.crm import locale, money, num, pct

Strong = Callable[[str], str]


def verdict_of(experiment: Experiment) -> ExperimentVerdict | None:
    """The verdict, if it was given."""
    return getattr(experiment, "verdict", None)


def _soon(day: date) -> str:
    """A day without its year."""
    return format_date(day, "d MMM", locale=locale())


def status(experiment: Experiment, progress: Progress) -> str:
    """The verdict in one sentence, or how far it is."""
    verdict = verdict_of(experiment)
    if verdict is not None:
        if verdict.kind == ExperimentVerdict.Kind.BETTER and verdict.winner is not None:
            return _("%(version)s is better") % {"version": verdict.winner.label}
        if verdict.kind == ExperimentVerdict.Kind.NO_DIFFERENCE:
            return _("No clear difference: use whichever you like")
        return _("Cannot tell: groups are uneven or data is broken")
    if experiment.state == Experiment.State.DRAFT:
        return _("Not started yet")
    if experiment.state == Experiment.State.ENDED:
        return _("Stopped before the planned number of people: no verdict")
    share = pct(int(progress.share * 100) / 100)
    if progress.ready is None:
        return _("Still collecting (%(share)s of planned)") % {"share": share}
    return _("Still collecting (%(share)s of planned, ready about %(day)s)") % {
        "share": share, "day": _soon(progress.ready),
    }  # fmt: skip


def mark(experiment: Experiment) -> str:
    """The kind of mark a page sets beside the sentence."""
    verdict = verdict_of(experiment)
    if verdict is None:
        return "info" if experiment.state == Experiment.State.RUNNING else "neutral"
    if verdict.kind == ExperimentVerdict.Kind.BETTER:
        return "warn" if verdict.is_yellow else "ok"
    return "bad" if verdict.kind == ExperimentVerdict.Kind.CANNOT_TELL else "neutral"


def why(verdict: ExperimentVerdict) -> list[str]:
    """What is behind a verdict that cannot tell, and what warns of a winner."""
    numbers = verdict.numbers
    found = []
    if numbers.get("why") == "uneven":
        found.append(
            _("The groups are more uneven than chance makes them, so something else decided who is in which. Do not use these "
              "numbers.")
        )  # fmt: skip
    elif numbers.get("why") == "broken":
        found.append(_("The message of many people could not be made, so they did not get their version."))
    warnings = {
        "unsubscribed": _("More people unsubscribed with this version than without it."),
        "complained": _("More people marked this version as spam."),
        "revenue": _("People spent less with this version."),
    }
    return [*found, *(warnings[name] for name in numbers.get("guards", []))]


def value(experiment: Experiment, amount: float | None) -> str:
    """A measure as text: a share in per cent, or money per person."""
    if amount is None:
        return "–"
    if experiment.is_money:
        return money(round(amount), settings.SHOP_CURRENCY)
    return pct(amount, 1 if abs(amount) >= 0.01 or not amount else 2)


def label(version: ExperimentVersion) -> str:
    """What makes the version, in words: its text, and its hour or that it is not personal."""
    parts = [str(version.template)]
    if version.hour is not None:
        parts.append(_("at %(hour)s") % {"hour": f"{version.hour:02d}:00"})
    if version.is_general:
        parts.append(_("without personal values"))
    return ", ".join(parts)


def _chance(share: float) -> str:
    """In per cent, and never a hundred."""
    return pct(share, 1) if share < 0.9995 else _("Over %(share)s") % {"share": pct(0.999, 1)}


def chance(verdict: ExperimentVerdict | None) -> str:
    """The chance of the likeliest version, for a list; a verdict that cannot tell has none."""
    if verdict is None or verdict.kind == ExperimentVerdict.Kind.CANNOT_TELL:
        return "–"
    found = [one["chance"] for one in verdict.numbers.get("versions", [])]
    return _chance(max(found)) if found else "–"


# --- Three plain numbers ----------------------------------------------------------------------------------------------


def numbers(experiment: Experiment, verdict: ExperimentVerdict, strong: Strong = str) -> list[str]:
    """The chance, the difference and the risk, each as a sentence; ``strong`` sets off the number in it."""
    found = verdict.numbers
    if not found.get("versions"):
        return []
    of = {one["label"]: one for one in found["versions"]}
    one = {"one": found["leader"], "other": found["other"]}
    best = of[found["leader"]]
    share = _chance(best["chance"])
    likely = (
        _("%(chance)s chance that %(one)s is better than %(other)s")
        if len(of) == 2
        else _("%(chance)s chance that %(one)s is the best of all")
    )
    return [
        likely % {**one, "chance": strong(share)},
        _difference(experiment, found, one, strong),
        _risk(experiment, best, one, strong),
    ]


def _difference(experiment: Experiment, found: Mapping[str, Any], one: dict[str, str], strong: Strong) -> str:
    if experiment.is_money:
        told = {name: money(round(found[name]), settings.SHOP_CURRENCY) for name in ("gap", "low", "high")}
        words = _("%(one)s brings %(gap)s more per person than %(other)s (likely between %(low)s and %(high)s)")
        return words % {**one, **told, "gap": strong(told["gap"])}
    gap = found["gap"] * 1000
    shown = round(gap) if abs(gap) >= 2 else round(gap, 1)
    told = {"low": num(round(found["low"] * 1000)), "high": num(round(found["high"] * 1000))}
    if experiment.measure == Experiment.Measure.CLICK:
        more = ngettext("%(n)s more click per 1,000 people", "%(n)s more clicks per 1,000 people", int(shown))
    else:
        more = ngettext("%(n)s more buyer per 1,000 people", "%(n)s more buyers per 1,000 people", int(shown))
    words = _("%(one)s gets %(more)s than %(other)s (likely between %(low)s and %(high)s)")
    return words % {**one, **told, "more": strong(more % {"n": num(shown)})}


def _risk(experiment: Experiment, best: Mapping[str, Any], one: dict[str, str], strong: Strong) -> str:
    if experiment.is_money:
        risk = money(round(best["risk"]), settings.SHOP_CURRENCY)
        told = _("%(risk)s per person") % {"risk": risk}
    else:
        each = best["risk"] * 1000
        risk = num(each, 1) if each >= 0.1 else num(max(each, 0.001), 3)
        told = (
            _("%(risk)s clicks per 1,000")
            if experiment.measure == Experiment.Measure.CLICK
            else _("%(risk)s buyers per 1,000")
        ) % {"risk": risk}
    small = best["risk"] < 0.005 * best["value"]
    words = (
        _("Risk if we choose %(one)s and are wrong: about %(told)s, next to nothing")
        if small
        else _("Risk if we choose %(one)s and are wrong: about %(told)s")
    )
    return words % {**one, "told": strong(told)}


# --- Before it starts -------------------------------------------------------------------------------------------------


def _tens(people: int) -> int:
    """Large numbers of people rounded up to tens: nobody plans for one more or less."""
    return -(-people // 10) * 10 if people >= 1000 else people


def answer(experiment: Experiment, found: Answer) -> list[str]:
    """How many people it needs, how long that takes, and what can be seen at all; and what stands against the start."""
    said = []
    if found.needed is not None:
        said.append(
            _("You need %(people)s people per version to see a change from %(now)s to %(then)s.")
            % {"people": num(_tens(found.needed)), "now": value(experiment, found.now), "then": value(experiment, found.then)}
        )  # fmt: skip
    if found.days is not None:
        said.append(
            ngettext(
                "At today's pace that is %(n)s day, and then %(window)s more until everybody's days are over.",
                "At today's pace that is %(n)s days, and then %(window)s more until everybody's days are over.",
                found.days,
            )
            % {"n": num(found.days), "window": num(experiment.window_days)}
        )
    elif found.needed is not None and experiment.campaign.kind != Campaign.Kind.BROADCAST:
        said.append(
            _("Nobody got a message of this campaign in the last four weeks, so nobody can say how long that takes.")
        )
    if found.is_too_small and found.have and found.now is not None:
        if found.seen is None:
            said.append(_("With your audience you can see nothing. Test something else."))
        else:
            said.append(
                _(
                    "With your audience you can only see very large differences (example: above %(lift)s). Test something bolder."
                )
                % {"lift": pct(found.seen)}
            )
    if found.problem is not None and found.problem.message not in said:
        said.append(found.problem.message)
    return said
