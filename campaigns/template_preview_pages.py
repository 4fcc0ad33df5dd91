"""A template's message as somebody gets it: beside the editor, by itself for the frame, as a test to oneself, and what every
version of it said.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from campaigns import blocks, checks, letters, texts, trials
from campaigns.channels import sms
from campaigns.errors import BrokenTemplate
from campaigns.frames import framed
from campaigns.models import Channel, Purpose, Template, TemplateVariant
from customers import finding
from customers.models import Customer
from lifecycle_crm.accounts.callers import may, need, only, person, sees_contacts, signed_in
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import http
from lifecycle_crm.lib.numbers import row_number

WIDTHS = (320, 600)
FOUND = 8
NEAR = 20_000
"""How far by number the next person is looked for."""
LOOKED_AT = 500
"""The newest customers among whom a first reader is looked for."""


def crumbs(*more: tuple[str, str]) -> list[dict[str, str]]:
    first = [(_("Campaigns"), reverse("campaigns:list")), (_("Templates"), reverse("campaigns:templates"))]
    return [{"label": label, "url": url} for label, url in (*first, *more)]


def whole(text: str | None, otherwise: int = 0) -> int:
    """What an address or a form says as a number."""
    return otherwise if (number := row_number(text)) is None else number


def editor(template: Template, code: str, request: HttpRequest | None = None, **more: Any) -> str:
    """The address of the editor, with the reader and the width that are being looked at."""
    kept = {name: request.GET[name] for name in ("customer", "width") if name in request.GET} if request else {}
    query = {name: value for name, value in {**kept, **more}.items() if value is not None}
    address = reverse("campaigns:template", args=[template.key, code])
    return f"{address}?{urlencode(query)}" if query else address


# --- As one person gets it --------------------------------------------------------------------------------------------


def _reachable(one: Template) -> QuerySet[Customer]:
    if one.channel == Channel.SMS:
        return Customer.objects.exclude(phone="")
    rows = Customer.objects.exclude(email_key=None)
    return rows.filter(facts__may_email=True) if one.purpose == Purpose.MARKETING else rows


def reader_of(request: HttpRequest, one: Template, code: str) -> Customer | None:
    """Whom it is shown for: who was asked for, else one of the newest who speaks the language."""
    if not sees_contacts(request):
        return None
    if wanted := whole(request.GET.get("customer")):
        found = Customer.objects.filter(pk=wanted).first()
        if found is not None:
            return found
    newest = list(Customer.objects.order_by("-pk").values_list("pk", "language")[:LOOKED_AT])
    speaking = [pk for pk, spoken in newest if (spoken or settings.LANGUAGE_CODE) == code]
    for some in (speaking, [pk for pk, _spoken in newest]):
        found = _reachable(one).filter(pk__in=some).order_by("-pk").first()
        if found is not None:
            return found
    return Customer.objects.order_by("-pk").first()


def beside(
    request: HttpRequest, one: Template, text: texts.Text, reader: Customer | None, has_mistakes: bool
) -> dict[str, Any]:
    """Everything beside the blocks. Empty words where the reader of the page may not see who a customer is."""
    if not sees_contacts(request):
        return {"hidden": True}
    width = whole(request.GET.get("width"))
    width = width if width in WIDTHS else WIDTHS[1]
    look_for = request.GET.get("find", "").strip()[:100]
    context: dict[str, Any] = {
        "reader": reader,
        "width": width,
        "widths": [{"px": px, "url": editor(one, text.language, request, width=px)} for px in WIDTHS],
        "look_for": look_for,
        "found": [
            (who, editor(one, text.language, request, customer=who.pk)) for who in finding.several(look_for, most=FOUND)
        ],
        "trials": trials.of(one)[:3],
        "is_local": settings.EMAIL["kind"] == "local",
        "has_provider": sms.is_set_up(),
        "sender": sms.sender() or settings.SHOP_NAME,
    }
    if reader is None:
        return context
    people = _reachable(one)
    # No further than this, so that a shop in which few have agreed is not read from end to end.
    before = people.filter(pk__lt=reader.pk, pk__gt=reader.pk - NEAR).order_by("-pk")
    after = people.filter(pk__gt=reader.pk, pk__lt=reader.pk + NEAR).order_by("pk")
    for name, rows in (("previous", before), ("next", after)):
        pk = rows.values_list("pk", flat=True).first()
        context[name] = editor(one, text.language, request, customer=pk) if pk else ""
    context["speaks"] = texts.language_name(reader.speaks()) if reader.speaks() != text.language else ""
    is_sms = one.channel == Channel.SMS
    if text.blocks and (text.subject or is_sms):
        try:
            made = letters.shown(variant=text.variant_like(), customer=reader)
        except BrokenTemplate as problem:
            mend = _("Mend what the checks call a mistake; then it appears here.")
            context["problem"] = mend if has_mistakes else problem.message
        else:
            address = reverse("campaigns:template-preview", args=[one.key, text.language])
            context["made"] = made
            context["measured"] = checks.said_of(made.measured) if made.measured else ""
            context["snippet"] = " ".join(made.text.partition("\n-- \n")[0].split())[:120]
            context["frame"] = f"{address}?customer={reader.pk}&r={text.revision}-{text.base}"
    return context


@require_GET
def template_preview(request: HttpRequest, key: str, language: str) -> HttpResponse:
    """The message by itself, for the frame: what is being written, or one version of it."""
    need(request, User.sees_contacts)
    one, code = texts.get(key), texts.language(language)
    customer = get_object_or_404(Customer, pk=whole(request.GET.get("customer")))
    version = whole(request.GET.get("version"))
    variant: TemplateVariant = (
        texts.numbered(one, code, version) if version else texts.current(one, code).variant_like()
    )
    if one.channel == Channel.SMS:
        raise Http404  # it is shown as it is, without a frame
    return framed(request, letters.shown(variant=variant, customer=customer).html)


@require_POST
@only(User.may_steer)
def template_try(request: HttpRequest, key: str, language: str) -> HttpResponse:
    """Send it to oneself as one customer would get it."""
    one, code = texts.get(key), texts.language(language)
    customer = get_object_or_404(Customer, pk=whole(request.POST.get("customer")))
    row = trials.send(
        variant=texts.current(one, code).variant_like(),
        customer=customer,
        user=signed_in(request),
        phone=request.POST.get("phone", ""),
    )
    if row.transport == "local":
        messages.info(
            request, _("The test was made and kept here: no mail server is set up. The preview shows the same.")
        )
    else:
        messages.success(request, _("The test is on its way to %(address)s.") % {"address": row.sent_to})
    return redirect(f"{editor(one, code, request, customer=customer.pk)}#preview-title")


# --- Versions ---------------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
def template_versions(request: HttpRequest, key: str, language: str) -> HttpResponse:
    """Every version of one language, what each changed, and the way back."""
    one, code = texts.get(key), texts.language(language)
    if request.method == "POST":
        need(request, User.may_steer)
        made = texts.go_back(
            variant=texts.numbered(one, code, whole(request.POST.get("version"))), actor=person(request)
        )
        messages.success(
            request, _("Version %(version)d says those words again.") % {"version": made.version}
        )  # fmt: skip
        return redirect("campaigns:template-versions", one.key, code)
    rows = texts.versions(one, code)
    reader = reader_of(request, one, code)
    lines = []
    for number, variant in enumerate(rows):
        older = rows[number + 1] if number + 1 < len(rows) else None
        frame = f"{reverse('campaigns:template-preview', args=[one.key, code])}?version={variant.version}"
        lines.append(
            {
                "variant": variant,
                "is_newest": number == 0,
                "is_first": variant.version == 1,
                "subject": blocks.words_changed(older.subject, variant.subject)
                if older
                else [("same", variant.subject)],
                "changes": blocks.diff(older.blocks, variant.blocks) if older else [],
                "frame": f"{frame}&customer={reader.pk}" if reader and one.channel != Channel.SMS else "",
            }
        )
    context = {
        "template": one,
        "language": code,
        "language_name": texts.language_name(code),
        "lines": lines,
        "is_sms": one.channel == Channel.SMS,
        "show": whole(request.GET.get("show")),
        "tabs": [
            {
                "label": capfirst(texts.language_name(other)),
                "url": reverse("campaigns:template-versions", args=[one.key, other]),
                "active": other == code,
            }
            for other in texts.LANGUAGES
        ],
        "may_edit": may(request, User.may_steer),
        "crumbs": crumbs((one.name, editor(one, code)), (_("Versions"), "")),
    }
    return http.page(request, "campaigns/template_versions.html", context)
