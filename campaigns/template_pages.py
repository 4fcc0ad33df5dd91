"""The staff's pages of templates: all of them, one being written, its versions, and the message as somebody would get it.

Everything is a plain form: a block is edited one at a time, and what is typed lies in the draft of its language.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from campaigns import blocks, checks, texts
from campaigns.blocks import KINDS, SUBJECT, WORDS
from campaigns.errors import BrokenTemplate
from campaigns.models import Channel, Purpose, Template
from campaigns.template_forms import BlockForm, SmsForm, SubjectForm, TemplateForm
from campaigns.template_preview_pages import beside, crumbs, editor, reader_of, whole
from customers.models import Customer
from lifecycle_crm.accounts.callers import may, need, only, person
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import http, pace
from lifecycle_crm.lib.errors import DomainError

# --- All of them ------------------------------------------------------------------------------------------------------


@require_GET
def template_list(request: HttpRequest) -> HttpResponse:
    """Every template: why it is written, in which languages, who says it, who touched it last."""
    archived = request.GET.get("archived") == "1"
    lines = texts.listed(archived=archived)
    context = {
        "lines": [_line(line) for line in lines],
        "archived": archived,
        "has_archived": Template.objects.filter(archived_at__isnull=False).exists(),
        "may_edit": may(request, User.may_steer),
        "crumbs": crumbs(),
    }
    return http.page(request, "campaigns/templates.html", context)


def _line(line: texts.Line) -> dict[str, Any]:
    written = [code for code, has_words in line.languages if has_words]
    first = settings.LANGUAGE_CODE if settings.LANGUAGE_CODE in written or not written else written[0]
    return {
        "line": line,
        "url": reverse("campaigns:template", args=[line.template.key, first]),
        "languages": [
            {"name": texts.language_name(code), "url": reverse("campaigns:template", args=[line.template.key, code])}
            for code in written
        ],
        "missing": [texts.language_name(code) for code in line.missing],
        "drafts": [texts.language_name(code) for code in line.drafts],
        "used_in": line.used_in[:3],
        "more": max(0, len(line.used_in) - 3),
    }


@require_http_methods(["GET", "HEAD", "POST"])
@only(User.may_steer)
def template_new(request: HttpRequest) -> HttpResponse:
    """A template without words; they are written next."""
    start = {"language": settings.LANGUAGE_CODE}
    form = TemplateForm(request.POST if request.method == "POST" else None, initial=start)
    status = 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                values = form.cleaned_data
                made = texts.create(name=values["name"], purpose=values["purpose"], channel=values["channel"])
            except DomainError as problem:
                form.add_error(None, problem.message)
            else:
                return redirect(editor(made, values["language"]))
    context = {"form": form, "crumbs": crumbs((_("New template"), ""))}
    return http.page(request, "campaigns/template_new.html", context, status=status)


@require_POST
@only(User.may_steer)
def template_act(request: HttpRequest, key: str) -> HttpResponse:
    """Rename, copy, put away, bring back: what concerns all languages at once."""
    template, verb = texts.get(key), request.POST.get("do", "")
    name = request.POST.get("name", "")
    if verb == "rename":
        texts.rename(template=template, name=name)
        messages.success(request, _("It is called “%(name)s” now.") % {"name": template.name})
    elif verb == "copy":
        made = texts.copy(template=template, name=name, actor=person(request))
        messages.success(request, _("“%(name)s” is a copy with the same words.") % {"name": made.name})
        return redirect(editor(made, (texts.written_in(made) or [settings.LANGUAGE_CODE])[0]))
    elif verb == "archive":
        texts.archive(template=template)
        messages.success(request, _("“%(name)s” is archived. Nothing is deleted.") % {"name": template.name})
        return redirect("campaigns:templates")
    elif verb == "bring_back":
        texts.bring_back(template=template)
        messages.success(request, _("“%(name)s” can be chosen again.") % {"name": template.name})
    return http.back(request, "campaigns:templates")


# --- One language of one, being written -------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
def template(request: HttpRequest, key: str, language: str) -> HttpResponse:
    """The words of one language: the blocks with their buttons, what is wrong, and the message as one person gets it."""
    one, code = texts.get(key), texts.language(language)
    if request.method != "POST":
        return _page(request, one, code, form=_opened(request, one, code))
    need(request, User.may_steer)
    verb, _sep, rest = request.POST.get("do", "").partition(":")
    if verb in ("block", "insert", "subject", "words"):
        return _typed(request, one, code, verb)
    if verb == "try_links":
        pace.take("template-links", request.user.pk, most=6)
        return _page(request, one, code, form=None, tried=checks.try_links(texts.current(one, code).blocks))
    anchor = _act(request, one, code, verb, whole(rest))
    return redirect(f"{editor(one, code, request)}#{anchor}")


def _act(request: HttpRequest, one: Template, code: str, verb: str, place: int) -> str:
    """One button; the place of the page to go to."""
    text, revision, actor = texts.current(one, code), whole(request.POST.get("revision")), person(request)
    same: dict[str, Any] = {"template": one, "language": code, "revision": revision, "actor": actor}
    if verb in ("up", "down"):
        step = -1 if verb == "up" else 1
        texts.change(**same, blocks=blocks.moved(text.blocks, place, step))
        return f"block-{min(max(place + step, 0), len(text.blocks) - 1)}"
    if verb == "double":
        texts.change(**same, blocks=blocks.doubled(text.blocks, place))
        return f"block-{place + 1}"
    if verb == "remove":
        texts.change(**same, blocks=blocks.removed(text.blocks, place))
        messages.success(request, _("The block is removed. “Undo” brings it back."))
        return "text-title"
    if verb == "divider":
        texts.change(**same, blocks=blocks.added(text.blocks, {"type": "divider"}, place))
        return f"block-{place}"
    if verb == "start":
        texts.start_from(
            template=one, language=code, other=request.POST.get("other", ""), revision=revision, actor=actor
        )
        return "text-title"
    if text.draft is None:
        raise texts.ChangedMeanwhile(_("There is nothing unsaved in this language any more."))
    if verb == "undo":
        texts.undo(draft=text.draft, revision=revision, actor=actor)
    elif verb == "discard":
        texts.discard(draft=text.draft, revision=revision)
        messages.success(request, _("The draft is gone. The saved words are as they were."))
    elif verb == "carry_over":
        texts.carry_over(draft=text.draft, revision=revision, actor=actor)
    elif verb == "save":
        made = texts.save(draft=text.draft, revision=revision, note=request.POST.get("note", ""), actor=actor)
        messages.success(
            request,
            _("Saved as version %(version)d. What is planned from now on says these words.")
            % {"version": made.version},
        )
    return "text-title"


def _opened(request: HttpRequest, one: Template, code: str) -> tuple[Any, int, bool] | None:
    """The form that the address asks for: (form, place, is new)."""
    if not may(request, User.may_steer):
        return None
    text = texts.current(one, code)
    if one.channel == Channel.SMS:
        is_open = request.GET.get("edit") == "words" or not text.blocks
        return (SmsForm(initial={"text": _words(text)}), WORDS, False) if is_open else None
    edit, add = request.GET.get("edit", ""), request.GET.get("add", "")
    if edit == "subject":
        return SubjectForm(initial={"subject": text.subject}), SUBJECT, False
    if add in KINDS:
        return _block_form(add, None, new=True), whole(request.GET.get("at"), len(text.blocks)), True
    place = whole(edit, -1)
    if edit and 0 <= place < len(text.blocks):
        block = text.blocks[place]
        if block.get("type") in KINDS:
            return _block_form(block["type"], block), place, False
    return None


def _words(text: texts.Text) -> str:
    """The text of an SMS."""
    return str(text.blocks[0].get("text", "")) if text.blocks else ""


def _block_form(kind: str, block: dict[str, Any] | None, *, new: bool = False) -> BlockForm:
    if new and kind == "points":
        # Nobody wants to read that they have none.
        block = {"type": kind, "when": {"value": "points", "op": "more", "than": 0}}
    return BlockForm(kind=kind, block=block)


def _typed(request: HttpRequest, one: Template, code: str, verb: str) -> HttpResponse:
    """A form was sent: into the draft, or back to the person with what is wrong."""
    text, revision = texts.current(one, code), whole(request.POST.get("revision"))
    same: dict[str, Any] = {"template": one, "language": code, "revision": revision, "actor": person(request)}
    kind, is_new = request.POST.get("kind", ""), request.POST.get("new") == "1"
    place = whole(request.POST.get("place"), SUBJECT)
    form: SubjectForm | BlockForm | SmsForm
    if one.channel == Channel.SMS:
        form = SmsForm(request.POST)
    else:
        form = BlockForm(request.POST, kind=kind) if kind in KINDS else SubjectForm(request.POST)
    place = place if isinstance(form, BlockForm) else form.place
    try:
        if verb == "insert":
            form.is_valid()
            values = form.inserted(form.first)
            form = BlockForm(values, kind=kind) if isinstance(form, BlockForm) else type(form)(values)
            return _page(request, one, code, form=(form, place, is_new))
        if form.is_valid():
            if isinstance(form, SubjectForm):
                texts.change(**same, subject=form.cleaned_data["subject"])
                return redirect(f"{editor(one, code, request)}#subject")
            if isinstance(form, SmsForm):
                texts.change(**same, blocks=form.words())
                return redirect(f"{editor(one, code, request)}#words")
            block = form.block()
            changed = blocks.added(text.blocks, block, place) if is_new else blocks.changed(text.blocks, place, block)
            texts.change(**same, blocks=changed)
            return redirect(f"{editor(one, code, request)}#block-{place}")
    except BrokenTemplate as problem:
        form.is_valid()
        if isinstance(form, BlockForm):
            form.complain(problem)
        else:
            form.add_error(None, problem.message)
    except texts.ChangedMeanwhile as problem:
        form.add_error(None, problem.message)
        return _page(request, one, code, form=(form, place, is_new), status=problem.status)
    return _page(request, one, code, form=(form, place, is_new), status=422)


def _page(
    request: HttpRequest,
    one: Template,
    code: str,
    *,
    form: tuple[Any, int, bool] | None,
    status: int = 200,
    tried: list[checks.Finding] | None = None,
) -> HttpResponse:
    text = texts.current(one, code)
    known = checks.readers(one.purpose, one.channel)
    reader = reader_of(request, one, code)
    found = _findings(text, known, reader) + (tried or [])
    # A form that is sent is not the page's address: what it was opened with may not open it again.
    is_editing, place, is_new = form or (None, WORDS - 1, False)
    context = {
        "template": one,
        "language": code,
        "language_name": texts.language_name(code),
        "text": text,
        "is_sms": one.channel == Channel.SMS,
        "words_chips": blocks.chips(_words(text)) if one.channel == Channel.SMS else [],
        "subject_chips": blocks.chips(text.subject),
        "lines": [_block_line(block, at, found) for at, block in enumerate(text.blocks)],
        "form": is_editing,
        "place": place,
        "is_new": is_new,
        "kinds": list(KINDS.values()),
        "tabs": _tabs(one, code, request),
        "findings": found,
        "all_answer": tried == [] and not any(problem.code == "link" for problem in found),
        "has_links": one.channel != Channel.SMS and bool(checks.links_of(text.blocks)),
        "unwritten": checks.unwritten(one, known),
        "others": [(other, texts.language_name(other)) for other in texts.written_in(one) if other != code],
        "fallback": texts.language_name(texts.falls_back_to(one, code)) if not text.variant else "",
        "is_behind": text.draft is not None and text.variant is not None and text.draft.base != text.variant.version,
        "changes": blocks.diff(text.variant.blocks, text.blocks) if text.draft and text.variant else [],
        "used_in": texts.in_use(one),
        "has_way_out": one.purpose != Purpose.SERVICE,
        "may_edit": may(request, User.may_steer),
        "here": editor(one, code, request),
        "crumbs": crumbs((one.name, "")),
        **beside(request, one, text, reader, any(problem.level == checks.BAD for problem in found)),
    }
    return http.page(request, "campaigns/template.html", context, status=status)


def _tabs(one: Template, code: str, request: HttpRequest) -> list[dict[str, Any]]:
    written = texts.written_in(one)
    return [
        {
            "label": capfirst(texts.language_name(other)),
            "url": editor(one, other, request),
            "active": other == code,
            "count": "" if other in written else _("missing"),
        }
        for other in texts.LANGUAGES
    ]


def _block_line(block: dict[str, Any], place: int, found: list[checks.Finding]) -> dict[str, Any]:
    kind = KINDS.get(block.get("type", ""))
    own = [one.level for one in found if one.block == place]
    return {
        "place": place,
        "label": kind.label if kind else block.get("type"),
        "kind": block.get("type"),
        "texts": [(field.label, field.form, blocks.chips(text)) for field, text in blocks.texts(block)] if kind else [],
        "first": kind.fields[0].name if kind and kind.fields else "",
        "when": blocks.say(block.get("when")),
        "mark": checks.BAD if checks.BAD in own else checks.WARN if checks.WARN in own else "",
    }


def _findings(text: texts.Text, known: checks.Readers, reader: Customer | None) -> list[checks.Finding]:
    if not text.blocks and not text.subject:
        return []
    return checks.find(
        template=text.template, subject=text.subject, blocks=text.blocks, language=text.language, customer=reader,
        known=known,
    )  # fmt: skip
