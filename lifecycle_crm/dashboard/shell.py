"""What every page shows around its content: the rail, the shop's name, the banner of the sample shop."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.conf import settings
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext_lazy as _

from lifecycle_crm.lib.models import Note


class Entry(NamedTuple):
    """A line of the rail. ``names`` are tried in order; an entry none of whose names resolves is left out."""

    label: Any
    icon: str
    names: tuple[str, ...]
    key: str = ""
    staff: bool = False


GROUPS: tuple[tuple[Any, tuple[Entry, ...]], ...] = (
    (
        "",
        (
            Entry(_("Home"), "home", ("dashboard:home",), "h"),
            Entry(_("Customers"), "people", ("customers:list",), "c"),
            Entry(_("Segments"), "filter", ("customers:segments",), "s"),
        ),
    ),
    (
        _("Insight"),
        (
            Entry(_("Stages"), "stages", ("stages:overview",), "t"),
            Entry(_("Stage flow"), "sort", ("dashboard:flow",), "w"),
            Entry(_("Retention"), "retention", ("dashboard:retention",), "y"),
            Entry(_("RFM"), "star", ("dashboard:rfm",), "r"),
            Entry(_("Nights"), "night", ("stages:night-list",), "n"),
        ),
    ),
    (
        _("Act"),
        (
            Entry(_("Journeys"), "journey", ("campaigns:journeys",), "j"),
            Entry(_("Tasks"), "check", ("campaigns:tasks",), "k"),
            Entry(_("Campaigns"), "send", ("campaigns:list",), "m"),
            Entry(_("Experiments"), "experiment", ("campaigns:experiments",), "x"),
            Entry(_("Templates"), "mail", ("campaigns:templates",), "e"),
            Entry(_("Sign-up forms"), "sign-up", ("campaigns:sign-ups",), "u"),
            Entry(_("Outbox"), "outbox", ("campaigns:outbox",), "o"),
        ),
    ),
    (
        _("Loyalty and feedback"),
        (
            Entry(_("Loyalty"), "gift", ("loyalty:overview",), "l"),
            Entry(_("Feedback"), "feedback", ("feedback:overview",), "f"),
        ),
    ),
    (
        _("Workshop"),
        (
            Entry(_("Imports"), "import", ("customers:import-list",), "i"),
            Entry(_("Webhooks"), "link", ("campaigns:hooks",), "b"),
            Entry(_("Admin"), "settings", ("admin:index",), "a", staff=True),
            Entry(_("API"), "code", ("api-docs", "api:docs", "docs"), "d"),
        ),
    ),
)


def address(*names: str) -> str:
    """The address of the first name that resolves, or "": a page that does not exist is not linked."""
    for name in names:
        try:
            return reverse(name)
        except NoReverseMatch:
            continue
    return ""


def is_sample() -> bool:
    """Whether this installation shows the sample shop: the command that loads it leaves a note."""
    return Note.objects.filter(name="sample_shop").exists()


def nav(request: HttpRequest) -> list[dict[str, Any]]:
    """The groups of the rail, with the page that the request is on marked."""
    staff = bool(getattr(getattr(request, "user", None), "is_staff", False))
    groups: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    for label, lines in GROUPS:
        items = [
            {"label": line.label, "url": url, "icon": line.icon, "key": line.key, "active": False}
            for line in lines
            if (staff or not line.staff) and (url := address(*line.names))
        ]
        if items:
            groups.append({"label": label, "items": items})
            entries += items
    # /stages/nights/ lies below /stages/: the longest address wins, and Home is active only on itself.
    path = getattr(request, "path", "")
    matching = [
        item for item in entries if path == item["url"] or (item["url"] != "/" and path.startswith(item["url"]))
    ]
    if matching:
        max(matching, key=lambda item: len(item["url"]))["active"] = True
    return groups


def context(request: HttpRequest) -> dict[str, Any]:
    """Context of every template. No database query unless a template uses ``is_sample``."""
    return {
        "nav": nav(request),
        "shop": {
            "name": settings.SHOP_NAME,
            "currency": settings.SHOP_CURRENCY,
            "time_zone": settings.SHOP_TIME_ZONE,
            "address": settings.SHOP_ADDRESS,
        },
        "is_sample": lambda: is_sample(),
        "addresses": {
            "home": address("dashboard:home"),
            "search": address("customers:list"),
            "sign_in": address("accounts:sign-in"),
            "sign_out": address("accounts:sign-out"),
            "language": address("set_language"),
        },
    }
