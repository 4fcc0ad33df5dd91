"""Every component in its states, with sample values: the page that designers look at and that tests visit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from lifecycle_crm.lib import clock
from lifecycle_crm.templatetags.crm import STAGES, month, num, pct, stage_name, ticks

MOVES = (
    ("new", "reach", 410),
    ("new", "acquire", 180),
    ("reach", "acquire", 390),
    ("acquire", "nurture", 330),
    ("acquire", "dormant", 140),
    ("nurture", "retain", 260),
    ("nurture", "dormant", 190),
    ("retain", "advocate", 120),
    ("retain", "dormant", 160),
    ("advocate", "retain", 40),
    ("dormant", "nurture", 150),
)


ICONS = [
    *(
        "home",
        "people",
        "stages",
        "night",
        "send",
        "outbox",
        "gift",
        "feedback",
        "import",
        "download",
        "settings",
        "code",
    ),
    *("search", "menu", "user", "out", "check", "ok", "warn", "bad", "info", "clock", "close", "plus", "edit", "up"),
    *("down", "flat", "sort", "chevron", "order", "mail", "star", "note", "copy", "undo", "filter", "link"),
]


class SampleForm(forms.Form):
    """One field of each kind."""

    name = forms.CharField(label="Name of the campaign", max_length=80, help_text="Only your team sees it.")
    days = forms.IntegerField(label="Days of silence", min_value=30)
    stage = forms.ChoiceField(label="Stage", choices=[(key, value["name"]) for key, value in STAGES.items()])
    channel = forms.ChoiceField(
        label="Channel", choices=[("email", "E-mail"), ("sms", "SMS")], widget=forms.RadioSelect, initial="email"
    )
    note = forms.CharField(label="Note", required=False, widget=forms.Textarea(attrs={"rows": 3}))
    quiet = forms.BooleanField(label="Move quietly, without starting campaigns", required=False)


def _label(stage: str) -> str:
    return "New" if stage == "new" else stage_name(stage)


def sample_flow() -> dict[str, Any]:
    """Two columns of stages and the moves between them, in the shape that ``{% chart %}`` takes."""
    totals: dict[tuple[int, str], int] = {}
    for source, target, count in MOVES:
        totals[0, source] = totals.get((0, source), 0) + count
        totals[1, target] = totals.get((1, target), 0) + count
    order = ["new", *STAGES]
    nodes = [
        {"id": f"{column}-{stage}", "column": column, "stage": stage, "label": f"{_label(stage)} {num(count)}"}
        for (column, stage), count in sorted(totals.items(), key=lambda item: (item[0][0], order.index(item[0][1])))
    ]
    moves = sorted(MOVES, key=lambda move: -move[2])
    names = {(source, target): f"{_label(source)} → {_label(target)}" for source, target, _count in MOVES}
    return {
        "id": "sample-flow",
        "kind": "sankey",
        "title": "Who moved between stages?",
        "sentence": "190 customers went from Nurture to Dormant, the largest leak. Customers who stayed are hidden.",
        "data": {
            "nodes": nodes,
            "links": [
                {
                    "source": f"0-{source}",
                    "target": f"1-{target}",
                    "value": count,
                    "label": f"{names[source, target]}: {num(count)} customers",
                    "url": f"?from={source}&to={target}",
                }
                for source, target, count in MOVES
            ],
        },
        "ranked": [
            {
                "label": names[source, target],
                "url": f"?from={source}&to={target}",
                "value": num(count),
                "percent": 100 * count / moves[0][2],
                "stage": source,
            }
            for source, target, count in moves
        ],
        "columns": [{"label": "Move"}, {"label": "Customers", "num": True}],
        "rows": [
            [names[source, target], {"text": num(count), "url": f"?from={source}&to={target}", "num": True}]
            for source, target, count in moves
        ],
        "note": "2,370 moves in the last 30 days",
        "csv_url": "?format=csv",
    }


def _months(count: int) -> list[str]:
    first = clock.today().replace(day=1)
    months = []
    for _step in range(count):
        months.append(month(first))
        first = (first - timedelta(days=1)).replace(day=1)
    return months[::-1]


def sample_line() -> dict[str, Any]:
    values = [0.214, 0.221, 0.226, 0.219, 0.238, 0.247, 0.251, 0.244, 0.262, 0.271, 0.268, 0.259]
    labels = _months(len(values))
    texts = [pct(value, 1) for value in values]
    return {
        "id": "sample-line",
        "kind": "line",
        "title": "Do first buyers come back?",
        "sentence": "26.8% of last month's mature first buyers ordered again within 90 days, up 4.7 points in a year.",
        "data": {
            "x": {"labels": labels},
            "y": {"ticks": ticks(0.3, "pct"), "title": ""},
            "running": "so far",
            "series": [
                {
                    "name": "Repurchase within 90 days",
                    "values": values,
                    "texts": texts,
                    "low": [value - 0.018 for value in values],
                    "high": [value + 0.018 for value in values],
                    "urls": ["?month=" + str(index) for index in range(len(values))],
                }
            ],
        },
        "columns": [{"label": "Month"}, {"label": "Bought again", "num": True}],
        "rows": [[label, {"text": text, "num": True}] for label, text in zip(labels, texts, strict=True)],
        "note": "n = 1,204 first buyers",
    }


def sample_bar() -> dict[str, Any]:
    fresh = [31200, 28400, 33100, 35800, 30200, 36700, 38900, 21300]
    again = [41800, 44200, 43900, 47600, 49100, 51300, 55200, 30100]
    labels = _months(len(fresh))
    return {
        "id": "sample-bar",
        "kind": "bar",
        "title": "Where does revenue come from?",
        "sentence": "59% of revenue came from people who had bought before.",
        "data": {
            "x": {"labels": labels},
            "y": {"ticks": ticks(100_000), "title": "Revenue, kr"},
            "running": "so far",
            "stacked": True,
            "series": [
                {"name": "Returning", "values": again, "texts": [num(value) for value in again]},
                {"name": "New", "values": fresh, "texts": [num(value) for value in fresh]},
            ],
        },
        "columns": [{"label": "Month"}, {"label": "Returning", "num": True}, {"label": "New", "num": True}],
        "rows": [
            [label, {"text": num(old), "num": True}, {"text": num(new), "num": True}]
            for label, old, new in zip(labels, again, fresh, strict=True)
        ],
    }


def _metrics() -> list[dict[str, Any]]:
    rising = [28, 30, 29, 33, 34, 33, 36, 38, 37, 40, 41, 42]
    falling = list(reversed(rising))
    return [
        {
            "name": "NPS",
            "value": "+42",
            "url": "?nps",
            "delta": {"text": "no clear change", "direction": "flat", "verdict": "same"},
            "basis": "than the 30 days before",
            "sample": "318 answers, ±8",
            "trend": rising,
            "running": True,
            "definition": "Share of 9 and 10 minus share of 0 to 6, last answer of each customer in the period.",
            "updated": clock.now(),
        },
        {
            "name": "Repurchase within 90 days",
            "value": "26.8%",
            "delta": {"text": "up 4.7 points", "direction": "up", "verdict": "better"},
            "basis": "than a year before",
            "sample": "1,204 first buyers",
            "trend": rising,
            "definition": "First buyers whose second order came within 90 days.",
        },
        {
            "name": "Churn",
            "value": "3.1%",
            "delta": {"text": "up 0.9 points", "direction": "up", "verdict": "worse"},
            "basis": "than the 30 days before",
            "sample": "214 of 6,903 customers",
            "trend": rising,
        },
        {
            "name": "Points liability",
            "value": "18 420 kr",
            "delta": {"text": "down 910 kr", "direction": "down", "verdict": "same"},
            "basis": "at 0.10 kr per point",
            "trend": falling,
        },
        {"name": "Satisfaction", "value": None, "have": 38, "need": 50, "definition": "Share of 4 and 5 of 5."},
    ]


def styleguide(request: HttpRequest) -> HttpResponse:
    now = clock.now()
    bound = SampleForm({"name": "", "days": "7", "stage": "retain", "channel": "email"}, auto_id="bad_%s")
    bound.is_valid()
    people = [
        ("Zofia Łęcka", "retain", 1_482_050, 7, "low", timedelta(days=4)),
        ("Åsa Öström", "dormant", 642_000, 3, "high", timedelta(days=214)),
        ("Řehoř Dvořák", "nurture", 89_900, 1, "medium", timedelta(days=41)),
        ("Kjersti Bjørnson", "advocate", 2_310_500, 19, "low", timedelta(hours=3)),
    ]
    risks = {"low": ("ok", "Low"), "medium": ("warn", "Medium"), "high": ("bad", "High")}
    context = {
        "crumbs": [{"label": "Home", "url": "/"}, {"label": "Style guide"}],
        "metrics": _metrics(),
        "tiles": [
            {
                "stage": stage,
                "url": f"?stage={stage}",
                "count": num(count),
                "share": f"{pct(count / 11_280)} of everyone",
                "change": change,
                "trend": [count - 60, count - 40, count - 50, count - 10, count + 20, count],
                "running": True,
            }
            for stage, count, change in (
                ("reach", 2410, "+38: 410 in, 372 out"),
                ("acquire", 1870, "−12: 570 in, 582 out"),
                ("nurture", 2210, "+90: 480 in, 390 out"),
                ("retain", 2904, "+20: 300 in, 280 out"),
                ("advocate", 682, "+80: 120 in, 40 out"),
                ("dormant", 1204, "+340: 490 in, 150 out"),
            )
        ],
        "flow": sample_flow(),
        "line": sample_line(),
        "bars": sample_bar(),
        "form": SampleForm(),
        "bound_name": bound["name"],
        "bound_days": bound["days"],
        "stage_keys": list(STAGES),
        "people": [
            {
                "name": name,
                "stage": stage,
                "revenue": revenue,
                "orders": orders,
                "risk": risks[risk],
                "last": now - since,
            }
            for name, stage, revenue, orders, risk, since in people
        ],
        "chips": [
            {"label": "Stage", "value": "Dormant", "remove_url": "?"},
            {"label": "Country", "value": "Sweden", "remove_url": "?"},
        ],
        "options": [
            {"label": "7 days", "url": "?days=7"},
            {"label": "30 days", "url": "?days=30", "active": True},
            {"label": "90 days", "url": "?days=90"},
        ],
        "tabs": [
            {"label": "Timeline", "url": "?tab=timeline", "active": True},
            {"label": "Stages", "url": "?tab=stages", "count": "4"},
            {"label": "Orders", "url": "?tab=orders", "count": "7"},
            {"label": "Feedback", "url": "?tab=feedback"},
        ],
        "today": clock.today(),
        "events": [
            {"at": now, "icon": "order", "title": "Order 10482", "url": "?order", "text": "3 items, 1 240,00 kr"},
            {
                "at": now - timedelta(hours=2),
                "stage": "dormant",
                "title": "Moved from Nurture to Dormant",
                "reason": "No order for 214 days (limit 180) and no e-mail opened for 96 days (limit 90).",
            },
            {
                "at": now - timedelta(hours=5),
                "icon": "mail",
                "title": "Message not sent",
                "text": "“We miss you”",
                "reason": "No consent for e-mail since 3 Nov 2026.",
                "body": "Topic: offers\nChannel: e-mail",
            },
        ],
        "heat": [
            ("Aug 2026", 335, [("100%", 7), ("46%", 5), ("34%", 4), ("26%", 3)]),
            ("Sep 2026", 318, [("100%", 7), ("44%", 5), ("31%", 4)]),
            ("Oct 2026", 301, [("100%", 7), ("39%", 5)]),
            ("Nov 2026", 287, [("100%", 7)]),
        ],
        "ramp": range(1, 8),
        "icons": ICONS,
        "now": now,
        "earlier": now - timedelta(minutes=3),
    }
    return render(request, "dashboard/styleguide.html", context)
