"""The pages of segments: the list, one segment over time, and the builder with its live count."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from customers import builder, counting, membership, queries, segments, sentences
from customers.builder import Builder, Group, Row
from customers.conditions import Condition
from customers.filters import country_name, language_name
from customers.models import Event, Product, Segment, SegmentDay, SegmentVersion
from customers.vocabulary import STAGES
from lifecycle_crm.accounts.callers import only, sees_contacts
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import DomainError, InvalidInput
from lifecycle_crm.lib.http import page
from lifecycle_crm.templatetags.crm import day, num, pct, signed, stage_name

DAYS = 30
SUGGESTED = 100


def _crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    return [{"label": _("Segments"), "url": reverse("customers:segments")}, *({"label": t, "url": u} for t, u in more)]


# --- The list -------------------------------------------------------------------------------------------------------------


@require_GET
def segment_list(request: HttpRequest) -> HttpResponse:
    shows_archived = request.GET.get("archived") == "1"
    rows = list(Segment.objects.select_related("owner").filter(archived_at__isnull=not shows_archived))
    since = clock.today() - timedelta(days=7)
    changes = {
        row["segment"]: (row["came"], row["went"])
        for row in SegmentDay.objects.filter(business_date__gte=since, is_first=False)
        .order_by()
        .values("segment")
        .annotate(came=Sum("entered"), went=Sum("left"))
    }
    for segment in rows:
        came, went = changes.get(segment.pk, (0, 0))
        segment.change = signed(came - went) if segment.pk in changes else ""
    return page(
        request,
        "customers/segment_list.html",
        {
            "segments": rows,
            "shows_archived": shows_archived,
            "has_archived": shows_archived or Segment.objects.exclude(archived_at=None).exists(),
            "starts": builder.STARTS,
            "may_edit": request.user.may_steer(),
        },
    )


# --- One segment ------------------------------------------------------------------------------------------------------------


@require_GET
def segment_detail(request: HttpRequest, key: str) -> HttpResponse:
    segment = segments.get(key)
    context: dict[str, Any] = {
        "segment": segment,
        "crumbs": _crumbs(),
        "may_edit": request.user.may_steer(),
        "sees_contacts": sees_contacts(request),
        "users": segments.users_of(segment.key),
        "versions": _versions(segment),
        **_growth(segment),
        **_on(request, segment),
    }
    try:
        condition = segments.condition_of(segment)
    except DomainError as problem:
        context["broken"] = problem.message
    else:
        context |= {"sentence": sentences.say(condition), **_panel(request, condition)}
    if segment.is_static:
        context["listed"] = [
            {"customer": row.customer, "name": queries.shown_name(row.customer, request.user), "added_at": row.added_at}
            for row in segments.listed(segment)[: queries.PAGE_SIZE]
        ]
    return page(request, "customers/segment_detail.html", context)


def _versions(segment: Segment) -> list[dict[str, Any]]:
    """What it was, newest first, each in words with what it took in and left out against the one before."""
    rows = list(SegmentVersion.objects.filter(segment=segment).select_related("created_by").order_by("-number")[:20])
    told = [{"row": row, "parts": _parts(row.condition)} for row in rows]
    for one, before in zip(told, [*told[1:], None], strict=True):
        if before is not None:
            one["added"] = [part for part in one["parts"] if part not in before["parts"]]
            one["removed"] = [part for part in before["parts"] if part not in one["parts"]]
    return told


def _parts(tree: Any) -> list[str]:
    """The rows of a stored condition as sentences; one that cannot be read any more says so."""
    head = next((head for head in ("all", "any") if isinstance(tree, dict) and head in tree), None)
    parts = tree[head] if head else [tree]
    told = []
    for part in parts:
        try:
            told.append(sentences.say(segments.read(part)))
        except DomainError as problem:
            told.append(problem.message)
    if head == "any" and len(told) > 1:
        return [_("any of: %(parts)s") % {"parts": "; ".join(told)}]
    return told or [_("everybody")]


def _growth(segment: Segment) -> dict[str, Any]:
    days = membership.days_of(segment, last=DAYS)
    if not days:
        return {"days": []}
    came = sum(one.entered for one in days if not one.is_first)
    went = sum(one.left for one in days if not one.is_first)
    oldest_first = days[::-1]
    return {
        "days": days,
        "first_day": membership.recorded_from(segment),
        "last_day": days[0].business_date,
        "trend": [one.members for one in oldest_first],
        "growth_sentence": _("%(came)s entered and %(went)s left since %(date)s.")
        % {"came": num(came), "went": num(went), "date": day(oldest_first[0].business_date)},
    }


def _on(request: HttpRequest, segment: Segment) -> dict[str, Any]:
    """Who was in it on a past date, when the address asks for one."""
    text = request.GET.get("on", "")
    if not text:
        return {}
    try:
        asked = parse_date(text)
    except ValueError:
        asked = None
    first = membership.recorded_from(segment)
    if asked is None:
        return {"on_problem": _("This is no date.")}
    if first is None or asked < first:
        return {"on_problem": _("Nights have counted this segment only since %(date)s.") % {"date": day(first)}
                if first else _("No night has counted this segment yet.")}  # fmt: skip
    sql, params = membership.members_on(segment, asked)
    [(count,)] = batches.rows(f"SELECT count(*) FROM ({sql}) AS were", params)
    url = f"{reverse('customers:list')}?segment={segment.key}&segment_on={asked:%Y-%m-%d}"
    return {"on": asked, "on_count": count, "on_url": url}


# --- What a condition describes -----------------------------------------------------------------------------------------------


def count_words(count: counting.Count) -> str:
    """ "1,204 people", or an estimate that says so."""
    if count.is_exact:
        return ngettext("%(n)s person", "%(n)s people", count.value) % {"n": num(count.value)}
    return _("About %(n)s people: %(low)s to %(high)s, estimated from a sample of %(sample)s") % {
        "n": num(count.value), "low": num(count.low), "high": num(count.high), "sample": num(count.n_sampled)
    }  # fmt: skip


def _panel(request: HttpRequest, condition: Condition) -> dict[str, Any]:
    """Count, reach, stages, a few people, and the verdict on one person."""
    is_patient = request.POST.get("act") == "exact" or request.GET.get("exact") == "1"
    found = counting.measure(condition, limit=counting.PATIENT_SECONDS if is_patient else counting.EXACT_SECONDS)
    after = request.POST.get("after", "") if request.POST.get("act") == "other" else ""
    people = segments.sample(condition, after=int(after) if after.isdecimal() and len(after) < 19 else 0)
    asked = (request.POST.get("person") or request.GET.get("person") or "").strip()[:100]
    total = found.count.value
    most = max(found.stages.values(), default=0)
    order = [*STAGES, ""]
    return {
        "measure": found,
        "count_words": count_words(found.count),
        "reachable": found.reachable,
        "reachable_share": pct(found.reachable / total) if total else "",
        "stage_rows": [
            {
                "label": stage_name(stage) if stage else _("No stage yet"),
                "value": num(found.stages[stage]),
                "percent": 100 * found.stages[stage] / most,
                "stage": stage,
            }
            for stage in sorted(found.stages, key=lambda s: order.index(s) if s in order else 99)
        ],
        "people": [{"pk": one.pk, "name": queries.shown_name(one, request.user)} for one in people],
        "after": people[-1].pk if len(people) == 10 and total > 10 else 0,
        "person": asked,
        **_verdict(request, condition, asked),
    }


def _verdict(request: HttpRequest, condition: Condition, asked: str) -> dict[str, Any]:
    if not asked:
        return {}
    # Who may not see names finds people by their number only, or searching would tell the names.
    if not sees_contacts(request) and not asked.removeprefix("#").isdecimal():
        return {"person_problem": _("Enter a customer's number: names are hidden for your role.")}
    someone = segments.find_person(asked)
    if someone is None:
        return {"person_problem": _("Nobody has this name, e-mail address or number.")}
    return {"verdict": segments.explain(condition, someone), "verdict_name": queries.shown_name(someone, request.user)}


# --- The builder ----------------------------------------------------------------------------------------------------------


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
            actor=request.user,
        )
    version = int(form["version"]) if form["version"].isdecimal() and len(form["version"]) < 9 else None
    return segments.edit(
        segment=segment, name=form["name"], note=form["note"], condition=tree, version=version, actor=request.user
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
        "crumbs": _crumbs(*([(segment.name, reverse("customers:segment", args=[segment.key]))] if segment else [])),
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
    told, context = rows, {}
    try:
        if rows is None:
            tree: Any = _from_json(form["json"])
        else:
            tree, told = builder.to_tree(rows)
            context["incomplete"] = len(told.faults)
        condition = segments.read(tree, inside=segment.key if segment else "", where=_("This segment"))
        context |= {"sentence": sentences.say(condition), **_panel(request, condition)}
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


# --- Acts -----------------------------------------------------------------------------------------------------------------


@only(User.may_steer)
@require_POST
def segment_archive(request: HttpRequest, key: str) -> HttpResponse:
    segment = segments.get(key)
    if segment.archived_at is None:
        segments.archive(segment=segment)
        messages.success(request, _("Archived: %(name)s. Its history stays.") % {"name": segment.name})
        return redirect("customers:segments")
    segments.restore(segment=segment)
    messages.success(request, _("In use again: %(name)s.") % {"name": segment.name})
    return redirect("customers:segment", segment.key)


@only(User.may_steer)
@require_POST
def segment_duplicate(request: HttpRequest, key: str) -> HttpResponse:
    copy = segments.duplicate(segment=segments.get(key), actor=request.user)
    return redirect("customers:segment-edit", copy.key)


@only(User.may_steer)
@require_POST
def segment_members(request: HttpRequest, key: str) -> HttpResponse:
    """Put people on a static list or take them off, by number, e-mail address or name, one a line."""
    segment = segments.get(key)
    if (gone := request.POST.get("remove", "")).isdecimal() and len(gone) < 19:
        segments.remove_members(segment=segment, customers=[int(gone)])
        messages.success(request, _("One person was taken off the list."))
        return redirect("customers:segment", segment.key)
    lines = [line.strip() for line in request.POST.get("people", "").splitlines() if line.strip()][:500]
    found = segments.find_people(lines)
    if unknown := [line for line, person in found.items() if person is None]:
        raise InvalidInput(_("Nobody was added: there is no “%(who)s”. Correct the line.") % {"who": unknown[0][:80]})
    count = segments.add_members(
        segment=segment, customers=[person.pk for person in found.values() if person], actor=request.user
    )
    messages.success(
        request, ngettext("%(n)s person was added.", "%(n)s people were added.", count) % {"n": num(count)}
    )
    return redirect("customers:segment", segment.key)
