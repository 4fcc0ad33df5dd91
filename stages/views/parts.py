"""What several pages of stages are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from customers.conditions import All
from customers.sentences import say
from lifecycle_crm.lib import clock
from lifecycle_crm.templatetags.crm import num, stage_name
from stages.models import StageKey
from stages.queries import NEW
from stages.rules import Rule


def label(stage: str) -> str:
    return _("New customers") if stage == NEW else stage_name(stage)


def matrix(
    moves: Mapping[tuple[str, str], int], url: Callable[[str, str], str] | None = None, *, stays: bool = False
) -> list[dict[str, Any]]:
    """Rows from "new" and the six stages to the six stages, each cell with its number, link and shade (0 to 7)."""
    most = max((n for (source, target), n in moves.items() if source != target), default=0)

    def cell(source: str, target: str) -> dict[str, Any]:
        count = moves.get((source, target), 0)
        if source == target and not stays:
            return {"text": "·", "heat": 0}
        if not count:
            return {"text": "–", "heat": 0}
        heat = 0 if source == target else 1 + round(6 * (count / most) ** 0.5)
        return {"text": num(count), "heat": min(heat, 7), "url": url(source, target) if url else "", "stays": stays}

    return [
        {
            "stage": "" if source == NEW else source,
            "label": label(source),
            "cells": [cell(source, target) for target in StageKey.values],
            "total": num(sum(n for (s, t), n in moves.items() if s == source and (stays or s != t))),
        }
        for source in [NEW, *StageKey.values]
    ]


def told(rule: Rule) -> dict[str, Any]:
    """A rule in words: its name, its condition, and in which stages and after which stay it applies."""
    sources = ", ".join(label(source) for source in rule.sources or ())
    return {
        "key": rule.key,
        "name": rule.title(),
        "to": rule.to,
        "sentence": _("everybody else") if rule.when == All(()) else say(rule.when),
        "sources": _("Only for those in: %(stages)s.") % {"stages": sources} if sources else "",
        "stay": ngettext(
            "Moves after at least %(n)d day there.", "Moves after at least %(n)d days there.", rule.stay_days
        )
        % {"n": rule.stay_days}
        if rule.stay_days
        else "",
    }


def crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    return [{"label": _("Stages"), "url": reverse("stages:overview")}, *({"label": t, "url": u} for t, u in more)]


def roof_url(name: str, *args: Any) -> str:
    """An address that lives above this app; empty where the app stands alone."""
    try:
        return reverse(name, args=args)
    except NoReverseMatch:
        return ""


def every(since: datetime) -> int:
    """Seconds until a page that watches work asks again: often at first, seldom when it takes long."""
    age = (clock.now() - since).total_seconds()
    return 2 if age < 60 else 5 if age < 600 else 15
