"""Filters and tags of every page: numbers, money and dates through Babel, and the small parts that repeat in tables.

The filters are plain functions, so Python code that writes a sentence uses the same ones as a template.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from babel import Locale
from babel.dates import format_date, format_datetime, format_timedelta
from babel.numbers import format_currency, format_decimal, format_percent
from django import template
from django.forms import BoundField, CheckboxInput
from django.http import QueryDict
from django.templatetags.static import static
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from lifecycle_crm.lib import clock
from lifecycle_crm.lib.money import digits, from_minor

register = template.Library()

NOTHING = "–"
"""What a cell shows when there is no value: an empty cell looks like a mistake."""

BABEL_NAMES = {"en": "en_GB"}

STAGES: dict[str, dict[str, Any]] = {
    "reach": {
        "name": _("Reach"),
        "goal": _("Turn attention into a first contact."),
        "shape": '<circle cx="6" cy="6" r="5"/>',
    },
    "acquire": {
        "name": _("Acquire"),
        "goal": _("Turn the first contact into a first order."),
        "shape": '<rect x="1.25" y="1.25" width="9.5" height="9.5"/>',
    },
    "nurture": {
        "name": _("Nurture"),
        "goal": _("Turn the first order into a second one."),
        "shape": '<path d="M6 .75 11.5 11H.5z"/>',
    },
    "retain": {
        "name": _("Retain"),
        "goal": _("Keep regular customers coming back."),
        "shape": '<path d="M6 .25 11.75 6 6 11.75.25 6z"/>',
    },
    "advocate": {
        "name": _("Advocate"),
        "goal": _("Give fans reasons to recommend the shop."),
        "shape": '<path d="m6 .3 1.7 3.7 4 .5-3 2.7.8 4L6 9.3l-3.5 1.9.8-4-3-2.7 4-.5z"/>',
    },
    "dormant": {
        "name": _("Dormant"),
        "goal": _("Win people back, or let them go kindly."),
        "shape": '<rect x=".5" y="4" width="11" height="4"/>',
    },
}


@lru_cache(maxsize=16)
def _locale(language: str) -> Locale:
    return Locale.parse(BABEL_NAMES.get(language, language), sep="_" if "_" in BABEL_NAMES.get(language, "") else "-")


def locale() -> Locale:
    """Babel's locale of the active language."""
    return _locale(get_language() or "en")


# --- Numbers --------------------------------------------------------------------------------------------------------


def _spaced(text: str) -> str:
    """A code needs a space where a sign does not: "SEK 1,234.50" beside "£1,234.50". Babel leaves it out."""
    return re.sub(r"(?<=[A-Z])(?=[\d])", "\xa0", text)


@register.filter
def money(minor: Any, currency: str) -> str:
    """``123450|money:"SEK"`` → "1 234,50 kr" in Swedish."""
    if minor is None or minor == "":
        return NOTHING
    return _spaced(format_currency(from_minor(minor, currency), currency, locale=locale()))


@register.filter
def money_round(minor: Any, currency: str) -> str:
    """Money without its decimals, for cards and axes: "1 235 kr"."""
    if minor is None or minor == "":
        return NOTHING
    whole = from_minor(minor, currency).quantize(Decimal(1))
    pattern = locale().currency_formats["standard"].pattern
    short = ";".join(part.replace(".00", "") for part in pattern.split(";"))
    return _spaced(format_currency(whole, currency, format=short, locale=locale(), currency_digits=False))


@register.filter
def num(value: Any, decimals: int | None = None) -> str:
    """A number in the active language; with ``decimals``, exactly that many."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, float) and not math.isfinite(value):
        return NOTHING
    if decimals is None:
        return format_decimal(value, locale=locale())
    return format_decimal(value, format="#,##0." + "0" * int(decimals) if int(decimals) else "#,##0", locale=locale())


@register.filter
def signed(value: Any, decimals: int = 0) -> str:
    """With a sign in front, for changes: "+38", "−4"."""
    if value is None or value == "":
        return NOTHING
    return ("+" if value > 0 else "−" if value < 0 else "±") + num(abs(value), decimals)


@register.filter
def pct(share: Any, decimals: int = 0) -> str:
    """A share between 0 and 1 as per cent: ``0.31|pct`` → "31%" or "31 %"."""
    if share is None or share == "" or (isinstance(share, float) and not math.isfinite(share)):
        return NOTHING
    tail = "." + "0" * int(decimals) if int(decimals) else ""
    pattern = locale().percent_formats[None].pattern  # "#,##0%", or with a no-break space before the sign
    return format_percent(share, format=re.sub(r"0(?=[^0]*$)", f"0{tail}", pattern), locale=locale())


def ticks(maximum: float, kind: str = "num", currency: str = "", count: int = 4) -> list[dict[str, Any]]:
    """Round steps of a value axis from zero, each with its text. ``kind`` is ``num``, ``pct`` (0–1) or ``money``."""
    span = float(maximum or 0)
    if span <= 0:
        span = 1.0
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= raw - 1e-12)
    if kind == "num" and step < 1:
        step = 1.0
    if kind == "money":
        step = max(step, 10.0 ** digits(currency))
    steps = range(math.ceil(span / step - 1e-9) + 1)
    values = [round(step * index, 10) for index in steps]
    writers: dict[str, Callable[[float], str]] = {
        "num": lambda value: num(int(value) if value == int(value) else value),
        "pct": lambda value: pct(value, 0 if step >= 0.01 else 1),
        "money": lambda value: money_round(int(value), currency),
    }
    write = writers[kind]
    return [{"value": int(value) if value == int(value) else value, "text": write(value)} for value in values]


# --- Time -----------------------------------------------------------------------------------------------------------


def _local(value: date | datetime) -> date | datetime:
    return value.astimezone(clock.zone()) if isinstance(value, datetime) and value.tzinfo else value


@register.filter
def day(value: date | datetime | None) -> str:
    """A date: "21 Nov 2026"."""
    return format_date(_local(value), "medium", locale=locale()) if value else NOTHING


@register.filter
def month(value: date | datetime | None) -> str:
    """A month: "Nov 2026"."""
    return format_date(_local(value), "LLL y", locale=locale()) if value else NOTHING


def moment(value: datetime) -> str:
    """A date and a time in the shop's zone, as text."""
    return format_datetime(_local(value), "short", locale=locale())


@register.filter
def when(value: date | datetime | None) -> str:
    """A date and a time in the shop's zone, inside ``<time>``."""
    if not value:
        return NOTHING
    text = moment(value) if isinstance(value, datetime) else day(value)
    return format_html('<time datetime="{}">{}</time>', value.isoformat(), text)


@register.filter
def ago(value: datetime | None) -> str:
    """ "3 minutes ago" inside ``<time>``, with the exact time on hover."""
    if not value:
        return NOTHING
    text = format_timedelta(value - clock.now(), add_direction=True, locale=locale())
    return format_html('<time datetime="{}" title="{}">{}</time>', value.isoformat(), moment(value), text)


# --- Stages and marks -----------------------------------------------------------------------------------------------


def stage_mark(stage: str) -> SafeString:
    known = stage in STAGES
    shape = STAGES[stage]["shape"] if known else '<circle cx="6" cy="6" r="4" fill="none" stroke="currentColor"/>'
    css = f"s-{stage}" if known else "s-none"
    return mark_safe(f'<svg class="{css}" viewBox="0 0 12 12" aria-hidden="true">{shape}</svg>')


@register.filter
def stage_name(stage: str) -> str:
    """The translated word of a stage."""
    return str(STAGES[stage]["name"]) if stage in STAGES else str(stage or NOTHING)


@register.filter
def stage_goal(stage: str) -> str:
    """What the shop wants in this stage, in one sentence."""
    return str(STAGES[stage]["goal"]) if stage in STAGES else ""


@register.simple_tag
def stage_badge(stage: str | None) -> str:
    """A stage as shape and word: ``{% stage_badge "dormant" %}``."""
    if not stage:
        return NOTHING
    return format_html('<span class="stage">{}{}</span>', stage_mark(stage), stage_name(stage))


@register.simple_tag
def stage_shape(stage: str) -> str:
    """Only the shape, for places where the word stands already."""
    return stage_mark(stage)


@register.simple_tag
def icon(name: str, label: str = "") -> str:
    """An icon of the sprite. Without ``label`` it is decoration beside a word."""
    address = f"{static('crm/icons.svg')}#{name}"
    if label:
        return format_html('<svg class="icon" role="img" aria-label="{}"><use href="{}"/></svg>', label, address)
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}"/></svg>', address)


@register.simple_tag
def bar(percent: float, stage: str = "") -> str:
    """A bar of 0–100 per cent. Its width is an SVG attribute, because the content policy refuses inline styles."""
    width = max(0.0, min(100.0, float(percent or 0)))
    return format_html(
        '<svg class="bar" aria-hidden="true"><rect class="mark{}" width="{}%" height="8" rx="4"/></svg>',
        f" s-{stage}" if stage in STAGES else "",
        f"{width:.2f}",
    )


@register.simple_tag
def spark(values: Iterable[float | None] | None, running: bool = False) -> str:
    """A line of few points without axes. With ``running`` the last piece is dashed: its period is not over."""
    points = [(index, float(value)) for index, value in enumerate(values or []) if value is not None]
    if len(points) < 2:
        return ""
    low, high = min(y for _x, y in points), max(y for _x, y in points)
    last_x = points[-1][0] or 1
    spread = high - low or 1.0
    placed = [(x / last_x * 120, 25 - (y - low) / spread * 22) for x, y in points]

    def line(part: Sequence[tuple[float, float]], css: str = "") -> str:
        return format_html('<polyline{} points="{}"/>', css, " ".join(f"{x:.1f},{y:.1f}" for x, y in part))

    dashed = mark_safe(' class="running"')
    lines = [line(placed[:-1]), line(placed[-2:], dashed)] if running and len(placed) > 2 else [line(placed)]
    return format_html(
        '<svg class="spark" viewBox="0 0 120 28" preserveAspectRatio="none" aria-hidden="true">{}</svg>',
        format_html_join("", "{}", ((part,) for part in lines)),
    )


# --- Components -----------------------------------------------------------------------------------------------------


@register.inclusion_tag("components/kpi.html")
def kpi(metric: Any) -> dict[str, Any]:
    """One card. ``metric`` is a mapping or object with the attributes that the template's head lists."""
    return {"metric": metric}


@register.inclusion_tag("components/delta.html")
def delta(text: str, direction: str = "flat", verdict: str = "same") -> dict[str, Any]:
    """A change: ``direction`` up, down or flat; ``verdict`` better, worse or same decides the colour."""
    return {"text": text, "direction": direction, "verdict": verdict}


STATUS_ICONS = {"ok": "ok", "warn": "warn", "bad": "bad", "info": "info", "waiting": "clock"}


@register.inclusion_tag("components/status.html")
def status(kind: str, text: str) -> dict[str, Any]:
    """A state in words: ``kind`` ok, warn, bad, info, waiting or neutral."""
    return {
        "kind": "neutral" if kind == "waiting" else kind,
        "icon_name": STATUS_ICONS.get(kind, ""),
        "text": text,
    }


@register.inclusion_tag("components/chart.html")
def chart(chart: Mapping[str, Any], level: int = 2) -> dict[str, Any]:
    """A figure with its sentence, drawing and table; the template's head lists the keys."""
    data = {**chart["data"], "kind": chart["kind"], "summary": str(chart.get("sentence", ""))}
    return {"chart": chart, "data": data, "heading": f"h{level}"}


@register.inclusion_tag("components/field.html")
def field(bound: BoundField, label: str = "") -> dict[str, Any]:
    """A form field with label, help and error, tied together for screen readers by Django's own ids."""
    widget = bound.field.widget
    return {
        "field": bound,
        "label": label or bound.label,
        "is_check": isinstance(widget, CheckboxInput),
        "is_group": bound.use_fieldset,
        "optional": not bound.field.required and not isinstance(widget, CheckboxInput),
    }


@register.simple_tag(takes_context=True)
def url_with(context: template.Context, **changes: Any) -> str:
    """This page's address with changes in the query: ``{% url_with sort="-name" page=None %}``; ``None`` removes."""
    request = context.get("request")
    query = request.GET.copy() if request else QueryDict(mutable=True)
    if "page" not in changes:
        query.pop("page", None)
    for key, value in changes.items():
        if value is None or value == "":
            query.pop(key, None)
        elif isinstance(value, (list, tuple)):
            query.setlist(key, [str(one) for one in value])
        else:
            query[key] = str(value)
    path = request.path if request else ""
    return f"{path}?{query.urlencode()}" if query else path or "?"


@register.inclusion_tag("components/sort_th.html", takes_context=True)
def sort_th(context: template.Context, key: str, label: str, numeric: bool = False) -> dict[str, Any]:
    """A header cell that sorts by ``?sort=key`` and ``?sort=-key``; numbers start with the largest."""
    request = context.get("request")
    current = request.GET.get("sort", "") if request else ""
    direction = "ascending" if current == key else "descending" if current == f"-{key}" else "none"
    first = f"-{key}" if numeric else key
    target = {"none": first, "ascending": f"-{key}", "descending": key}[direction]
    return {"url": url_with(context, sort=target), "label": label, "direction": direction, "numeric": numeric}
