"""The pages of segments: the list, one segment over time, and the list of people that somebody keeps by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST

from customers import builder, membership, queries, segments, sentences, usage
from customers.models import Segment, SegmentDay, SegmentVersion
from customers.segment_panel import panel
from lifecycle_crm.accounts.callers import may, only, person, sees_contacts
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import DomainError
from lifecycle_crm.lib.http import page
from lifecycle_crm.templatetags.crm import day, num, signed

DAYS = 30


def crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
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
    uses = usage.by_segment()
    for segment in rows:
        segment.uses = uses.get(segment.key, [])
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
            "may_edit": may(request, User.may_steer),
        },
    )


# --- One segment ------------------------------------------------------------------------------------------------------------


@require_GET
def segment_detail(request: HttpRequest, key: str) -> HttpResponse:
    return _detail(request, segments.get(key))


def _detail(request: HttpRequest, segment: Segment, status: int = 200, **more: Any) -> HttpResponse:
    context: dict[str, Any] = {
        "segment": segment,
        "crumbs": crumbs(),
        "may_edit": may(request, User.may_steer),
        "sees_contacts": sees_contacts(request),
        "uses": usage.of(segment.key),
        "versions": _versions(segment),
        **_growth(segment),
        **_on(request, segment),
        **more,
    }
    try:
        condition = segments.condition_of(segment)
    except DomainError as problem:
        context["broken"] = problem.message
    else:
        context |= {"sentence": sentences.say(condition), **panel(request, condition)}
    if segment.is_static:
        context["listed"] = [
            {"customer": row.customer, "name": queries.shown_name(row.customer, request.user), "added_at": row.added_at}
            for row in segments.listed(segment)[: queries.PAGE_SIZE]
        ]
    return page(request, "customers/segment_detail.html", context, status=status)


def _versions(segment: Segment) -> list[dict[str, Any]]:
    """What it was, newest first, each in words with what it took in and left out against the one before."""
    rows = list(SegmentVersion.objects.filter(segment=segment).select_related("created_by").order_by("-number")[:20])
    told: list[dict[str, Any]] = [{"row": row, "parts": _parts(row.condition)} for row in rows]
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
    copy = segments.duplicate(segment=segments.get(key), actor=person(request))
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
    people = request.POST.get("people", "")
    try:
        count = segments.add_people(segment=segment, texts=people.splitlines(), actor=person(request))
    except DomainError as problem:
        return _detail(request, segment, status=problem.status, people_typed=people, people_problem=problem.message)
    messages.success(
        request, ngettext("%(n)s person was added.", "%(n)s people were added.", count) % {"n": num(count)}
    )
    return redirect("customers:segment", segment.key)
