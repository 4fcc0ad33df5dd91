"""The pages of feedback: one for the customer who answers, the others for those who read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from customers.queries import shown_name
from feedback import cases, links, queries, surveys
from feedback.errors import TooManyChanges
from feedback.forms import AnswerForm, CaseAnswerForm, CaseAssignForm, CaseCloseForm, CaseNoteForm, LinkForm
from feedback.models import Case, Invitation
from lifecycle_crm.accounts.callers import may, only, person, sees_contacts
from lifecycle_crm.accounts.middleware import public
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock, http
from lifecycle_crm.lib.errors import DomainError, NotFound
from lifecycle_crm.lib.numbers import row_number
from lifecycle_crm.templatetags.crm import num, pct, signed

PAGE = 25


def _named(request: HttpRequest, rows: Iterable[Any]) -> None:
    """Give each row ``who``: its customer's name, as far as this user may see it."""
    for row in rows:
        row.who = shown_name(row.customer, request.user)


# --- The customer's page ----------------------------------------------------------------------------------------------


@public
@csrf_exempt  # The signed token in the address is the proof; people without cookies answer too.
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def survey(request: HttpRequest, token: str) -> HttpResponse:
    """A GET shows the question, or the thanks when it is answered; only a POST answers."""
    invitation = surveys.open_link(token)
    language = _language(request, invitation)
    with translation.override(language):
        if request.method == "POST":
            page = _take(request, invitation, token, language)
        else:
            page = _ask(request, invitation)
            if request.method == "GET":
                surveys.mark_opened(invitation)
    page["Content-Language"] = language
    page["X-Robots-Tag"] = "noindex, nofollow"
    return page


def _language(request: HttpRequest, invitation: Invitation) -> str:
    asked = request.POST.get("lang") or request.GET.get("lang") or ""
    return asked if asked in dict(settings.LANGUAGES) else invitation.language


def _take(request: HttpRequest, invitation: Invitation, token: str, language: str) -> HttpResponse:
    form = AnswerForm(request.POST, invitation=invitation)
    status = 422
    if form.is_valid():
        try:
            surveys.answer(
                token=token,
                score=form.cleaned_data["score"],
                comment=form.cleaned_data["comment"],
                language=language,
                ip=request.META.get("REMOTE_ADDR") or None,
            )
        except TooManyChanges as problem:
            form.add_error(None, problem.message)
            status = problem.status
        else:
            return redirect(f"{links.survey_path(invitation)}?lang={language}", permanent=False)
    return _form_page(request, invitation, form, status)


def _ask(request: HttpRequest, invitation: Invitation) -> HttpResponse:
    response = getattr(invitation, "response", None)
    pressed = request.GET.get("score", "")
    if response is not None and not pressed and "change" not in request.GET:
        context = {
            "invitation": invitation,
            "response": response,
            "thanks": invitation.survey.text("thanks"),
            "language": translation.get_language(),
            "languages": settings.LANGUAGES,
        }
        return render(request, "feedback/thanks.html", context)
    first = {"score": response.score, "comment": response.comment} if response else {}
    if pressed in {str(n) for n in range(invitation.survey.scale[0], invitation.survey.scale[1] + 1)}:
        first["score"] = pressed
    return _form_page(request, invitation, AnswerForm(initial=first, invitation=invitation), 200)


def _form_page(request: HttpRequest, invitation: Invitation, form: AnswerForm, status: int) -> HttpResponse:
    context = {
        "invitation": invitation,
        "survey": invitation.survey,
        "form": form,
        "low": invitation.survey.text("low"),
        "high": invitation.survey.text("high"),
        "language": translation.get_language(),
        "languages": settings.LANGUAGES,
    }
    return render(request, "feedback/survey.html", context, status=status)


# --- Staff ------------------------------------------------------------------------------------------------------------


@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    """How people speak of the shop, who waits for an answer, what came last."""
    return _overview(request, LinkForm(initial={"customer": request.GET.get("customer", "")}))


def _overview(request: HttpRequest, form: LinkForm, status: int = 200) -> HttpResponse:
    view = request.GET.get("view", "")
    waiting = queries.inbox()
    if view == "mine":
        waiting = waiting.filter(assignee_id=request.user.pk)
    elif view == "late":
        waiting = waiting.filter(state=Case.State.OPEN, due_at__lt=clock.now())
    elif view == "unassigned":
        waiting = waiting.filter(assignee=None)
    inbox = Paginator(waiting, PAGE).get_page(request.GET.get("page"))
    _named(request, inbox.object_list)
    context: dict[str, Any] = {"inbox": inbox, "view": view, "next_url": _next(request, inbox)}
    if not request.headers.get("HX-Target", "").endswith("#inbox-rows"):
        found = queries.overview()
        _named(request, found.latest)
        link = row_number(request.GET.get("link"))
        made = Invitation.objects.select_related("customer", "survey").filter(pk=link).first() if link else None
        context |= {
            "found": found,
            "metrics": _metrics(found),
            "bars": _bars(found),
            "form": form,
            "may_act": may(request, User.may_serve),
            "made": made,
            "made_url": links.survey_url(made) if made else "",
            "last_closed": queries.last_closed(),
            "tabs": [
                {"label": label, "url": f"?view={key}" if key else "?", "active": view == key}
                for key, label in (
                    ("", _("All")),
                    ("late", _("Late")),
                    ("unassigned", _("Unassigned")),
                    ("mine", _("Mine")),
                )
            ],
        }
    return http.page(request, "feedback/overview.html", context, status=status)


def _next(request: HttpRequest, page: Any) -> str:
    if not page.has_next():
        return ""
    query = request.GET.copy()
    query["page"] = str(page.next_page_number())
    return f"{request.path}?{query.urlencode()}"


@require_GET
def responses(request: HttpRequest) -> HttpResponse:
    """Everything that was answered, the last first; ``?group=detractor`` or ``?score=4`` narrows it."""
    group, score = request.GET.get("group", ""), request.GET.get("score", "")
    found = queries.responses(group=group, score=row_number(score))
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    _named(request, page.object_list)
    options = [
        {"label": label, "url": f"?group={key}" if key else "?", "active": group == key and not score}
        for key, label in (
            ("", _("All")),
            ("promoter", _("Promoters, 9–10")),
            ("passive", _("Passives, 7–8")),
            ("detractor", _("Detractors, 0–6")),
            ("comment", _("With a comment")),
        )
    ]
    if score:
        options.append({"label": _("Score %(score)s") % {"score": score}, "url": f"?score={score}", "active": True})
    context = {
        "page": page,
        "options": options,
        "next_url": _next(request, page),
        "is_narrow": bool(group or score),
        "crumbs": [{"label": _("Feedback"), "url": reverse("feedback:overview")}, {"label": _("Answers")}],
    }
    return http.page(request, "feedback/responses.html", context)


@require_POST
@only(User.may_serve)
def make_link(request: HttpRequest) -> HttpResponse:
    form = LinkForm(request.POST)
    if not form.is_valid():
        return _overview(request, form, status=422)
    invitation = surveys.invite(
        customer=form.cleaned_data["customer"],
        survey=form.cleaned_data["survey"],
        key=f"by-hand:{clock.today().isoformat()}",
        reason="by hand",
        actor=person(request),
    )
    return redirect(f"{reverse('feedback:overview')}?link={invitation.pk}#link")


@require_GET
def case(request: HttpRequest, pk: int) -> HttpResponse:
    """One case: what was said, what we did, and what to do next."""
    return _case_page(request, _case(pk))


def _case(pk: int) -> Case:
    found = queries.case(pk)
    if found is None:
        raise NotFound(_("There is no such case. Choose one from the inbox."))
    return found


def _case_page(request: HttpRequest, found: Case, status: int = 200, **bound: Any) -> HttpResponse:
    _named(request, [found])
    context = {
        "case": found,
        "sees_contacts": sees_contacts(request),
        "response": found.response,
        "answers": list(queries.answers(found.response)) if found.response else [],
        "notes": list(queries.notes(found)),
        "others": [
            one for one in queries.for_customer(found.customer_id, limit=6).responses if one.pk != found.response_id
        ],
        "may_act": may(request, User.may_serve),
        "answer_form": CaseAnswerForm(prefix="answer"),
        "note_form": CaseNoteForm(prefix="note"),
        "assign_form": CaseAssignForm(prefix="assign", initial={"assignee": found.assignee_id}),
        "close_form": CaseCloseForm(prefix="close"),
        "crumbs": [{"label": _("Feedback"), "url": reverse("feedback:overview")}, {"label": _("Case")}],
        **bound,
    }
    return http.page(request, "feedback/case.html", context, status=status)


def _act(request: HttpRequest, pk: int, name: str, form: Any, verb: Callable[..., Any]) -> HttpResponse:
    """Parse, call, and back to the case; a refusal is shown at its form."""
    found = _case(pk)
    if form.is_valid():
        try:
            verb(case=found, actor=person(request), **form.cleaned_data)
        except DomainError as problem:
            form.add_error(None, problem.message)
            return _case_page(request, _case(pk), problem.status, **{f"{name}_form": form})
        return redirect("feedback:case", pk)
    return _case_page(request, found, 422, **{f"{name}_form": form})


@require_POST
@only(User.may_serve)
def answer_case(request: HttpRequest, pk: int) -> HttpResponse:
    return _act(request, pk, "answer", CaseAnswerForm(request.POST, prefix="answer"), cases.answer)


@require_POST
@only(User.may_serve)
def note_case(request: HttpRequest, pk: int) -> HttpResponse:
    return _act(request, pk, "note", CaseNoteForm(request.POST, prefix="note"), cases.note)


@require_POST
@only(User.may_serve)
def assign_case(request: HttpRequest, pk: int) -> HttpResponse:
    return _act(request, pk, "assign", CaseAssignForm(request.POST, prefix="assign"), cases.assign)


@require_POST
@only(User.may_serve)
def close_case(request: HttpRequest, pk: int) -> HttpResponse:
    return _act(request, pk, "close", CaseCloseForm(request.POST, prefix="close"), cases.close)


# --- What the overview shows ------------------------------------------------------------------------------------------


def _metrics(found: queries.Overview) -> list[dict[str, Any]]:
    score = found.nps
    nps: dict[str, Any] = {
        "name": _("NPS"),
        "value": signed(round(score.value)) if score.is_enough and score.value is not None else None,
        "have": score.n,
        "need": score.needed,
        "definition": _(
            "Share of promoters (9–10) minus share of detractors (0–6), in points from −100 to +100, by the last "
            "answer of each customer in %(days)d days. The range is a 95%% interval (%(method)s)."
        )
        % {"days": found.days, "method": score.method},
        "updated": found.as_of,
    }
    if score.is_enough:
        nps["sample"] = _("%(low)s to %(high)s · %(n)s customers") % {
            "low": signed(round(score.low or 0)),
            "high": signed(round(score.high or 0)),
            "n": num(score.n),
        }
    elif score.n and score.value is not None:
        nps["sample"] = _("So far %(value)s ± %(margin)s points") % {
            "value": signed(round(score.value)),
            "margin": num(round(score.margin or 0)),
        }
    if found.change is not None:
        way = "flat" if not found.is_clear else "up" if found.change > 0 else "down"
        nps["delta"] = {
            "text": _("no clear change")
            if way == "flat"
            else _("%(points)s points") % {"points": signed(found.change, 1)},
            "direction": way,
            "verdict": {"flat": "same", "up": "better", "down": "worse"}[way],
        }
        nps["basis"] = _("against the %(days)d days before") % {"days": found.days}
    waiting = found.cases
    return [
        nps,
        {
            "name": _("Response rate"),
            "value": pct(found.rate.share) if found.rate.invited else None,
            "have": 0,
            "need": 1,
            "sample": _("%(answered)s of %(invited)s links of %(days)d days")
            % {"answered": num(found.rate.answered), "invited": num(found.rate.invited), "days": found.days},
            "definition": _("Of the survey links made in the period, the share that was answered so far."),
        },
        {
            "name": _("Cases waiting"),
            "value": num(waiting.waiting),
            "url": "#inbox",
            "sample": _("%(open)s not answered, %(answered)s answered and not closed")
            % {"open": num(waiting.open), "answered": num(waiting.answered)},
            "definition": _("A score of 0–6 opens a case. Answer it within 48 hours; close it with what came of it."),
        },
        {
            "name": _("Late"),
            "value": num(waiting.late),
            "url": "?view=late#inbox",
            "sample": _("not answered by their due time"),
            "definition": _("Cases without an answer after their due time."),
        },
    ]


def _bars(found: queries.Overview) -> list[dict[str, Any]]:
    most, n = max(found.counts.values()) or 1, found.nps.n or 1
    return [
        {
            "label": str(score),
            "url": f"{reverse('feedback:responses')}?score={score}" if found.counts[score] else "",
            "value": f"{num(found.counts[score])} · {pct(found.counts[score] / n)}",
            "percent": 100 * found.counts[score] / most,
        }
        for score in sorted(found.counts, reverse=True)
    ]
