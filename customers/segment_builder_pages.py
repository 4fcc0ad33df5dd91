"""The builder of a segment: rows or JSON, with the live count beside them."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from customers import builder, counting, queries, segment_pages, segments, sentences
from customers.builder import Builder, Group, Row
from customers.filters import country_name, language_name
from customers.models import Event, Product, Segment
from customers.segment_panel import panel
from customers.vocabulary import STAGES
from lifecycle_crm.accounts.callers import only, person, sees_contacts
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib.errors import DomainError, InvalidInput
from lifecycle_crm.lib.http import page
from lifecycle_crm.templatetags.crm import num, stage_name

SUGGESTED = 100


@only(User.may_steer)
@require_http_methods(["GET", "POST"])
def segment_new(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        return _posted(request, None)
    start = next((one for one in builder.STARTS if one.key == request.GET.get("from")), None)
    form = {"name": str(start.name) if start else "", "note": "", "version": "", "kind": request.GET.get("kind", "")}
    rows = builder.of_tree(start.tree) if start else Builder("all", (Row(),))
    return _builder_page(request, None, form, rows)


@only(User.may_steer)
@require_http_methods(["GET", "POST"])
def segment_edit(request: HttpRequest, key: str) -> HttpResponse:
    segment = segments.get(key)
    if request.method == "POST":
        return _posted(request, segment)
    form = {"name": segment.name, "note": segment.note, "version": str(segment.version), "kind": segment.kind}
    if segment.is_static:
        return _builder_page(request, segment, form, Builder())
    if request.GET.get("as") != "json":
        try:
            return _builder_page(request, segment, form, builder.of_tree(segment.condition))
        except builder.CannotShow as problem:
            form["cannot_show"] = problem.message
    form["json"] = _pretty(segment.condition)
    return _builder_page(request, segment, form, None)


def _pretty(tree: Any) -> str:
    return json.dumps(tree, indent=2, ensure_ascii=False)


def _posted(request: HttpRequest, segment: Segment | None) -> HttpResponse:
    act = request.POST.get("act", "refresh")
    form = {name: request.POST.get(name, "") for name in ("name", "note", "version", "kind", "json")}
    if segment is not None:
        form["kind"] = segment.kind
    is_json = "json" in request.POST
    rows = None if is_json else builder.read(request.POST)
    focus = ""
    if rows is not None and act not in ("save", "refresh", "other", "exact"):
        rows, focus = builder.change(rows, act)
    if act != "save":
        return _builder_page(request, segment, form, rows, focus=focus)
    try:
        saved = _save(request, segment, form, rows)
    except DomainError as problem:
        form["problem"] = problem.message
        return _builder_page(request, segment, form, rows, status=422, shows_faults=True)
    messages.success(request, _("Saved: %(name)s.") % {"name": saved.name})
    return redirect("customers:segment", saved.key)


def _save(request: HttpRequest, segment: Segment | None, form: dict[str, str], rows: Builder | None) -> Segment:
    is_static = form["kind"] == Segment.Kind.STATIC
    tree: Any = None
    if rows is None:
        tree = _from_json(form["json"])
    elif not is_static:
        tree, told = builder.to_tree(rows)
        if told.faults:
            raise InvalidInput(" ".join(told.faults))
    if segment is None:
        return segments.create(
            name=form["name"],
            kind=Segment.Kind.STATIC if is_static else Segment.Kind.LIVE,
            condition=tree,
            note=form["note"],
            actor=person(request),
        )
    version = int(form["version"]) if form["version"].isdecimal() and len(form["version"]) < 9 else None
    return segments.edit(
        segment=segment, name=form["name"], note=form["note"], condition=tree, version=version, actor=person(request)
    )


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as problem:
        raise InvalidInput(_("This is no JSON: %(problem)s.") % {"problem": problem}) from None


def _builder_page(
    request: HttpRequest,
    segment: Segment | None,
    form: dict[str, str],
    rows: Builder | None,
    *,
    focus: str = "",
    status: int = 200,
    shows_faults: bool = False,
) -> HttpResponse:
    context: dict[str, Any] = {
        "segment": segment,
        "form": form,
        "is_static": form.get("kind") == Segment.Kind.STATIC,
        "is_json": rows is None,
        "crumbs": segment_pages.crumbs(
            *([(segment.name, reverse("customers:segment", args=[segment.key]))] if segment else [])
        ),
        "panel_url": reverse("customers:segment-panel"),
        "sees_contacts": sees_contacts(request),
        "starts": builder.STARTS,
    }
    if not context["is_static"]:
        context |= _live(request, segment, form, rows, focus=focus, shows_faults=shows_faults)
        choices = _choices(segment, rows)
        context |= choices
        for one in context.get("items", ()):
            for line in one.get("rows", (one,)):
                line["choices"] = choices.get(f"{line['row'].wants}_choices", ())
    return page(request, "customers/segment_edit.html", context, status=status)


def _live(
    request: HttpRequest,
    segment: Segment | None,
    form: dict[str, str],
    rows: Builder | None,
    *,
    focus: str = "",
    shows_faults: bool = False,
) -> dict[str, Any]:
    """The rows with what each of them does, and the panel of everybody they describe."""
    told = rows
    context: dict[str, Any] = {}
    try:
        if rows is None:
            tree: Any = _from_json(form["json"])
        else:
            tree, told = builder.to_tree(rows)
            context["incomplete"] = len(told.faults)
        condition = segments.read(tree, inside=segment.key if segment else "", where=_("This segment"))
        context |= {"sentence": sentences.say(condition), **panel(request, condition)}
        # What was too slow to count once is not worth waiting for row by row.
        limit = counting.EXACT_SECONDS if context["measure"].count.is_exact else 0
        effects, is_exact = counting.effects(condition, limit=limit)
    except DomainError as problem:
        context["panel_problem"] = problem.message
        effects, is_exact = {}, True
    if told is not None:
        context |= {"match": told.match, "items": _items(told, effects, is_exact, focus, shows_faults)}
    return context


def _items(
    told: Builder, effects: dict[tuple[int, ...], int], is_exact: bool, focus: str, shows_faults: bool
) -> list[dict[str, Any]]:
    """Rows and groups for the template. Rows that are not complete have no place in the tree, so they are not counted."""
    shown: list[dict[str, Any]] = []
    at = 0

    def one(row: Row, place: str, number: str, path: tuple[int, ...] | None) -> dict[str, Any]:
        return {
            "place": place,
            "id": place.replace(".", "_"),
            "number": number,
            "row": row,
            "fault": row.fault if shows_faults else "",
            "effect": _effect(effects.get(path), is_exact) if path is not None else "",
            "is_focus": place == focus,
        }

    last = len(told.items) - 1
    for top, item in enumerate(told.items):
        if isinstance(item, Row):
            shown.append(
                {
                    **one(item, str(top), str(top + 1), None if item.fault else (at,)),
                    "first": top == 0,
                    "last": top == last,
                }
            )
            at += not item.fault
            continue
        inner, rows = 0, []
        for n, row in enumerate(item.rows):
            place = one(row, f"{top}.{n}", f"{top + 1}.{n + 1}", None if row.fault else (at, inner))
            rows.append({**place, "first": n == 0, "last": n == len(item.rows) - 1})
            inner += not row.fault
        shown.append(
            {
                "place": str(top),
                "id": str(top),
                "number": str(top + 1),
                "group": item,
                "rows": rows,
                "effect": _effect(effects.get((at,)), is_exact) if inner else "",
                "first": top == 0,
                "last": top == last,
            }
        )
        at += bool(inner)
    return shown


def _effect(removed: int | None, is_exact: bool) -> str:
    if removed is None:
        return ""
    about = "" if is_exact else "≈ "
    if removed == 0:
        return _("changes nothing")
    return about + (f"−{num(removed)}" if removed > 0 else f"+{num(-removed)}")


def _choices(segment: Segment | None, rows: Builder | None) -> dict[str, Any]:
    """What the rows can choose from. Names of events are taken from the newest ones: the table has no index by name."""
    flat = [row for item in (rows.items if rows else ()) for row in (item.rows if isinstance(item, Group) else (item,))]
    used = {row.field for row in flat}
    others = Segment.objects.filter(archived_at=None)
    if segment is not None:
        others = others.exclude(pk=segment.pk)
    return {
        "field_groups": builder.FIELD_GROUPS,
        "stage_choices": [(stage, stage_name(stage)) for stage in STAGES],
        "country_choices": sorted(
            ((code, country_name(code)) for code in queries.countries()), key=lambda pair: pair[1]
        )
        if "country" in used
        else [],
        "language_choices": [(code, language_name(code)) for code, _name in settings.LANGUAGES]
        if "language" in used
        else [],
        "segment_choices": list(others.values_list("key", "name")) if "segment" in used else [],
        "event_names": sorted(set(Event.objects.order_by("-pk").values_list("name", flat=True)[:2000]))[:SUGGESTED]
        if "did" in used
        else [],
        "categories": list(
            Product.objects.exclude(category="")
            .order_by("category")
            .values_list("category", flat=True)
            .distinct()[:SUGGESTED]
        )
        if "category" in used
        else [],
    }


@require_POST
def segment_panel(request: HttpRequest) -> HttpResponse:
    """The live part beside the builder, while somebody types."""
    key = request.POST.get("key", "")
    segment = Segment.objects.filter(key=key).first() if key else None
    rows = None if "json" in request.POST else builder.read(request.POST)
    context = _live(request, segment, {"json": request.POST.get("json", "")}, rows)
    return page(request, "customers/segment_edit.html", {"is_panel": True, **context})
