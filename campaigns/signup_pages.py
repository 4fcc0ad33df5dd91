"""The pages of sign-up forms: two for the stranger who asks for our news, the others for the team."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import translation
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from campaigns import limits, texts
from campaigns.models import SignUp, SignUpForm
from campaigns.signup_forms import AskForm, SignUpSettingsForm, SignUpWordsForm
from campaigns.signups import asking, editing, reading
from lifecycle_crm.accounts.callers import may, only, person, sees_contacts
from lifecycle_crm.accounts.middleware import public
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import http, pace
from lifecycle_crm.lib.errors import DomainError, Gone, NotFound
from lifecycle_crm.lib.numbers import row_number

PAGE = 50
LOOKS, ASKS, ADDRESS, PRESSES = 600, 20, 3, 30
"""A minute: looks at one form, which may be on a poster; sign-ups from one computer, for one address, and pressed links."""


# --- The stranger -----------------------------------------------------------------------------------------------------


@public
@csrf_exempt  # A form on the shop's own pages posts here too, and brings no cookie; what it starts is only a mail.
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def ask(request: HttpRequest, key: str) -> HttpResponse:
    """A GET shows the form; a POST mails the link. The answer never tells whether we knew the address."""
    try:
        form = editing.get(key)
    except NotFound as problem:
        pace.take("sign-up-guess", request.META.get("REMOTE_ADDR"), most=PRESSES)
        raise Gone(problem.message) from None
    return _in_language(request, settings.LANGUAGE_CODE, lambda language: _ask(request, form, language))


def _ask(request: HttpRequest, of: SignUpForm, language: str) -> HttpResponse:
    if of.archived_at is not None:
        raise Gone(_("This sign-up has ended. Have a look at the shop all the same."))
    pace.take("sign-up-look", of.key, most=LOOKS)
    form = AskForm(request.POST if request.method == "POST" else None, asks_name=of.asks_name)
    status, asked = 200, ""
    if form.is_bound:
        pace.take("sign-up", request.META.get("REMOTE_ADDR"), most=ASKS)
        status = 422
        if form.is_valid():
            address = form.cleaned_data["email"]
            try:
                if not form.is_robot:
                    pace.take("sign-up-address", address.lower(), most=ADDRESS)
                    asking.ask(
                        form=of, email=address, language=language, given_name=form.cleaned_data.get("given_name", ""),
                        ip=request.META.get("REMOTE_ADDR") or None,
                    )  # fmt: skip
            except DomainError as problem:
                form.add_error(None, problem.message)
                status = problem.status
            else:
                status, asked = 200, address
    context = {
        "form": form, "words": asking.words(of, language), "asked": asked, "language": language,
        "languages": [one for one in settings.LANGUAGES if one[0] in of.words],
    }  # fmt: skip
    return render(request, "campaigns/signup_public.html", context, status=status)


@public
@csrf_exempt  # The signed token in the address is the proof; a mail program brings no cookie.
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: HttpRequest, token: str) -> HttpResponse:
    """A GET shows one button and changes nothing, because mail scanners press every link. The POST is the yes."""
    pace.take("sign-up-confirm", request.META.get("REMOTE_ADDR"), most=PRESSES)
    row = asking.find(token)
    if request.method == "POST":
        row = asking.confirm(token=token, ip=request.META.get("REMOTE_ADDR") or None)

    def shown(language: str) -> HttpResponse:
        context = {
            "row": row, "words": asking.words(row.form, language), "language": language,
            "is_done": row.state == SignUp.State.CONFIRMED,
        }  # fmt: skip
        return render(request, "campaigns/signup_confirm.html", context)

    return _in_language(request, row.language, shown)


def _in_language(request: HttpRequest, otherwise: str, page: Any) -> HttpResponse:
    asked = request.POST.get("lang") or request.GET.get("lang") or ""
    language = asked if asked in dict(settings.LANGUAGES) else otherwise
    with translation.override(language):
        response: HttpResponse = page(language)
    response["Content-Language"] = language
    response["X-Robots-Tag"] = "noindex, nofollow"
    response["Referrer-Policy"] = "no-referrer"
    return response


# --- The team ---------------------------------------------------------------------------------------------------------


def _crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    first = (_("Sign-up forms"), reverse("campaigns:sign-ups"))
    return [{"label": label, "url": url} for label, url in (first, *more)]


def _address(form: SignUpForm) -> str:
    return settings.SITE_URL + reverse("campaigns:sign-up", args=[form.key])


@require_GET
def form_list(request: HttpRequest) -> HttpResponse:
    """Every form with who asked and who confirmed."""
    archived = request.GET.get("archived") == "1"
    rows = list(reading.forms(archived=archived))
    known = reading.counts(one.pk for one in rows)
    context = {
        "lines": [
            {"form": one, "counts": known.get(one.pk, reading.Counts()), "address": _address(one)} for one in rows
        ],
        "days": reading.DAYS,
        "archived": archived,
        "has_archived": SignUpForm.objects.filter(archived_at__isnull=False).exists(),
        "may_steer": may(request, User.may_steer),
    }
    return http.page(request, "campaigns/signups.html", context)


@only(User.may_steer)
@require_http_methods(["GET", "POST"])
def form_new(request: HttpRequest) -> HttpResponse:
    form = SignUpSettingsForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = editing.create(**form.cleaned_data, actor=person(request))
        except DomainError as problem:
            _refused(form, problem)
        else:
            messages.success(request, _("It works already, in all languages. Read the words, then share the address."))
            return redirect("campaigns:sign-up-form", made.key)
    context = {"form": form, "crumbs": _crumbs()}
    return http.page(request, "campaigns/signup_new.html", context, status=422 if form.errors else 200)


@require_GET
def form_detail(request: HttpRequest, key: str) -> HttpResponse:
    """Its address, its words, and who signed up; the newest first."""
    form = editing.get(key)
    state = request.GET.get("state", "")
    found = reading.sign_ups(form, state=state)
    if before := row_number(request.GET.get("before")):
        found = found.filter(pk__lt=before)
    rows = list(found[: PAGE + 1])
    if not sees_contacts(request):
        for row in rows:
            row.email = row.given_name = row.error = ""
    is_local = settings.EMAIL["kind"] == "local"
    context = {
        "of": form,
        "counts": reading.counts([form.pk]).get(form.pk, reading.Counts()),
        "days": reading.DAYS,
        "address": _address(form),
        "languages": [
            {
                "name": capfirst(texts.language_name(code)),
                "title": asking.words(form, code).get("title", ""),
                "code": code,
            }
            for code in texts.LANGUAGES
        ],
        "rows": [(row, asking.confirm_url(row) if is_local and row.state == "asked" else "") for row in rows[:PAGE]],
        "next_before": rows[PAGE - 1].pk if len(rows) > PAGE else None,
        "states": http.choices(request, "state", {"": _("All"), **dict(SignUp.State.choices)}, state),
        "is_local": is_local,
        "hold": limits.standing(),
        "may_steer": may(request, User.may_steer),
        "crumbs": _crumbs(),
    }
    return http.page(request, "campaigns/signup.html", context)


@only(User.may_steer)
@require_http_methods(["GET", "POST"])
def form_settings(request: HttpRequest, key: str) -> HttpResponse:
    of = editing.get(key)
    form = SignUpSettingsForm.of(of, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            editing.change(form=of, **form.cleaned_data)
        except DomainError as problem:
            _refused(form, problem)
        else:
            messages.success(request, _("Saved."))
            return redirect("campaigns:sign-up-form", of.key)
    context = {"of": of, "form": form, "heading": of.name, "crumbs": _crumbs((of.name, _page(of)))}
    return http.page(request, "campaigns/signup_edit.html", context, status=422 if form.errors else 200)


@only(User.may_steer)
@require_http_methods(["GET", "POST"])
def form_words(request: HttpRequest, key: str, language: str) -> HttpResponse:
    of, language = editing.get(key), texts.language(language)
    form = SignUpWordsForm(request.POST or None, initial=asking.words(of, language))
    if request.method == "POST" and form.is_valid():
        try:
            editing.write(form=of, language=language, words=form.cleaned_data)
        except DomainError as problem:
            _refused(form, problem)
        else:
            messages.success(request, _("Saved. New visitors read these words."))
            return redirect("campaigns:sign-up-form", of.key)
    context = {
        "of": of, "form": form, "heading": f"{of.name}: {texts.language_name(language)}", "language": language,
        "crumbs": _crumbs((of.name, _page(of))),
    }  # fmt: skip
    return http.page(request, "campaigns/signup_edit.html", context, status=422 if form.errors else 200)


@only(User.may_steer)
@require_POST
def form_act(request: HttpRequest, key: str, verb: str) -> HttpResponse:
    form = editing.get(key)
    if verb == "archive":
        editing.archive(form=form)
        messages.success(request, _("Archived. Nobody can sign up here any more; who was asked can still confirm."))
    else:
        editing.bring_back(form=form)
        messages.success(request, _("Open again."))
    return redirect(_page(form))


def _page(form: SignUpForm) -> str:
    return reverse("campaigns:sign-up-form", args=[form.key])


def _refused(form: Any, problem: DomainError) -> None:
    field = str(problem.extra.get("field", ""))
    form.add_error(field if field in form.fields else None, problem.message)
