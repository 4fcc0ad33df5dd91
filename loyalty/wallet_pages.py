"""The customer's pages: their wallet by signed link, redeeming with a confirmation, and a programme in plain words.

A GET shows and never decides. The token in the address is the proof, so nobody signs in and no cookie is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import translation
from django.utils.cache import get_conditional_response
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from lifecycle_crm.accounts.middleware import public
from lifecycle_crm.lib import images, pace
from lifecycle_crm.lib.errors import DomainError, Gone, NotFound
from lifecycle_crm.lib.numbers import row_number
from loyalty import catalogue, codemails, codes, marks, pictures, queries, referrals, rewards, vouchers, wallet
from loyalty.errors import CannotMail
from loyalty.models import Programme, Redemption, Reward, WalletCard
from loyalty.reward_forms import MailForm, OrderRewardForm

LOOKS, PRESSES = 120, 20
"""So many looks and pressed buttons a minute for one link: more is no person."""
READERS = 600
"""So many looks a minute at the page of a programme from one address, which may be a whole shop's."""
MAILS = 5
"""So many codes a minute that one customer may have mailed."""
GUESSES = 30
"""So many addresses a minute that open nothing, from one computer."""
PICTURES = 3000
"""So many pictures a minute to one address, which may be a whole shop's: each is asked for once and then kept."""
KEEP = "public, max-age=31536000, immutable"
"""What an address with a SHA-256 in it gives never changes, so nobody has to ask again for a year."""


def _language(request: HttpRequest, default: str) -> str:
    asked = request.POST.get("lang") or request.GET.get("lang") or ""
    known = dict(settings.LANGUAGES)
    return asked if asked in known else default if default in known else settings.LANGUAGE_CODE


def _public(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A page for somebody without a sign-in, in their language, kept by no cache and no search engine."""

    @wraps(view)
    def shown(request: HttpRequest, token: str, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            card = wallet.find(token)
        except Gone:
            pace.take("guess", request.META.get("REMOTE_ADDR"), most=GUESSES)
            raise
        if request.method == "POST":
            pace.take("wallet-press", token, most=PRESSES)
        pace.take("wallet", token, most=LOOKS)
        language = _language(request, card.customer.speaks())
        with translation.override(language):
            page = view(request, card, token, *args, **kwargs)
        page["Content-Language"] = language
        page["X-Robots-Tag"] = "noindex, nofollow"
        # The address opens the wallet: it goes to nobody else.
        page["Referrer-Policy"] = "same-origin"
        return page

    return public(csrf_exempt(never_cache(shown)))


def _context(request: HttpRequest, card: WalletCard, token: str, **more: Any) -> dict[str, Any]:
    kept = {name: request.GET[name] for name in ("programme",) if request.GET.get(name)}
    return {
        "card": card,
        "customer": card.customer,
        "token": token,
        "language": translation.get_language(),
        "languages": settings.LANGUAGES,
        "kept": "".join(f"&{urlencode({name: value})}" for name, value in kept.items()),
        **more,
    }


# --- The wallet -------------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD"])
@_public
def show(request: HttpRequest, card: WalletCard, token: str) -> HttpResponse:
    """What they have, when it ends, what it buys, why it moved, the card, and the rules."""
    before = row_number(request.GET.get("before"))
    view = wallet.view(card.customer, key=request.GET.get("programme", ""), before=before, is_for_customer=True)
    number = view.stay.number if view.stay else card.number
    is_scanned = len(number) == 13 and number.isdigit()
    done = request.GET.get("done", "")
    mailed = codemails.times(view.taken)
    taken = [_taken(one, mailed.get(one.pk, 0)) for one in view.taken]
    holds = referrals.offer()
    own = referrals.code(card.customer) if holds else None
    context = _context(
        request, card, token,
        view=view,
        taken=taken,
        are_pictured=pictures.shown(one.reward for one in view.offers),
        done=next((one for one in taken if str(one["redemption"].pk) == done), None),
        is_undone=request.GET.get("undone") == "1",
        mailed=request.GET.get("mailed", ""),
        number=marks.grouped(number) if is_scanned else number,
        qr=marks.qr(number, _("QR code of your card")),
        barcode=marks.barcode(number, _("Barcode of your card")) if is_scanned else "",
        percent=round(100 * view.progress.share) if view.progress else 0,
        steps=_steps(view.progress),
        is_later_page=before is not None,
        offer=holds,
        friend_code=codes.shown(own.code) if own else "",
        friend_url=referrals.url(own) if own else "",
        friend_qr=marks.qr(referrals.url(own), _("QR code of your link")) if own else "",
        friend_mail=_mail(referrals.url(own)) if own else "",
    )  # fmt: skip
    return render(request, "loyalty/wallet.html", context)


def _mail(link: str) -> str:
    """An address that opens a new message with the link in it; whom it goes to is the customer's own affair."""
    subject = _("Have a look at %(shop)s") % {"shop": settings.SHOP_NAME}
    return f"mailto:?{urlencode({'subject': subject, 'body': link}, quote_via=quote)}"


def _steps(progress: Any) -> dict[str, str]:
    if progress is None or progress.following is None:
        return {}
    return {
        "missing": wallet.amount(progress.ladder, progress.missing),
        "counted": wallet.amount(progress.ladder, max(0, progress.counted)),
        "threshold": wallet.amount(progress.ladder, progress.following.threshold),
    }


def _taken(redemption: Redemption, mailed: int) -> dict[str, Any]:
    voucher = getattr(redemption, "voucher", None)
    return {
        "redemption": redemption,
        "code": codes.shown(voucher.code if voucher else redemption.code),
        "worth": vouchers.said(voucher.series) if voucher else "",
        "voucher": voucher,
        "last_day": queries.last_day(voucher.expires_at) if voucher and voucher.expires_at else None,
        "problem": str(vouchers.refusal(voucher) or "") if voucher else "",
        "may_undo": rewards.may_undo(redemption),
        "may_mail": not codemails.refusal(redemption, mailed),
        "mail_form": MailForm(),
    }


@require_http_methods(["GET", "HEAD", "POST"])
@_public
def redeem(request: HttpRequest, card: WalletCard, token: str, pk: int) -> HttpResponse:
    """A GET asks "for so many points, really?"; a POST redeems, once however often the button is pressed."""
    reward = catalogue.rewards().filter(pk=pk, is_active=True).first() if pk < 2**63 else None
    if reward is None:
        raise NotFound(_("This reward is not offered any more. Go back to your points and choose another."))
    wallet.speak(reward)
    view = wallet.view(card.customer, key=reward.programme.key, is_for_customer=True)
    offer = next((one for one in view.offers if one.reward.pk == reward.pk), None)
    if offer is None:
        raise NotFound(_("This reward is not offered any more. Go back to your points and choose another."))
    status, problem = 200, ""
    if request.method == "POST":
        status, problem = 422, _("Press the button on this page to redeem it.")
        form = OrderRewardForm(request.POST)
        if form.is_valid():
            try:
                done = rewards.redeem(
                    reward=reward,
                    customer=card.customer,
                    key=f"wallet:{card.customer_id}:{form.cleaned_data['key']}",
                    points=form.cleaned_data["points"],
                    source_type="wallet",
                )
            except DomainError as refused:
                status, problem = refused.status, refused.message
                view = wallet.view(card.customer, key=reward.programme.key, is_for_customer=True)
                offer = next((one for one in view.offers if one.reward.pk == reward.pk), offer)
            else:
                return _back(token, done=str(done.pk), programme=reward.programme.key)
    context = _context(
        request, card, token,
        view=view, offer=offer, problem=problem, form=OrderRewardForm(), left=view.together - (offer.points or 0),
    )  # fmt: skip
    return render(request, "loyalty/wallet_redeem.html", context, status=status)


@require_POST
@_public
def undo(request: HttpRequest, card: WalletCard, token: str, pk: int) -> HttpResponse:
    """Within ten minutes, and only their own."""
    redemption = (
        Redemption.objects.select_related("reward__programme", "entry", "voucher")
        .filter(pk=pk, customer=card.customer_id)
        .first()
        if pk < 2**63
        else None
    )
    if redemption is None:
        raise NotFound(_("There is no such redemption. Go back to your points."))
    rewards.undo(redemption=redemption)
    return _back(token, undone="1", programme=redemption.reward.programme.key)


@require_POST
@_public
def mail_code(request: HttpRequest, card: WalletCard, token: str, pk: int) -> HttpResponse:
    """The code of something they redeemed, to the address on file; once however often the button is pressed."""
    found = Redemption.objects.select_related("reward__programme", "voucher", "customer")
    redemption = found.filter(pk=pk, customer=card.customer_id).first() if pk < 2**63 else None
    if redemption is None:
        raise NotFound(_("There is no such redemption. Go back to your points."))
    pace.take("wallet-mail", card.pk, most=MAILS)
    form = MailForm(request.POST)
    programme = redemption.reward.programme.key
    if not form.is_valid():
        return _back(token, mailed="no", programme=programme)
    try:
        codemails.ask(redemption=redemption, key=f"wallet:{card.customer_id}:{form.cleaned_data['key']}")
    except CannotMail:
        return _back(token, mailed="no", programme=programme)
    return _back(token, mailed="yes", programme=programme)


def _back(token: str, **query: str) -> HttpResponse:
    query["lang"] = translation.get_language() or settings.LANGUAGE_CODE
    return redirect(f"{reverse('loyalty:wallet', args=[token])}?{urlencode(query)}")


# --- A programme for everybody ----------------------------------------------------------------------------------------


@public
@require_http_methods(["GET", "HEAD"])
def programme(request: HttpRequest, key: str) -> HttpResponse:
    """The rules of an active programme in plain words, made from the programme itself."""
    pace.take("programme", request.META.get("REMOTE_ADDR"), most=READERS)
    found = Programme.objects.filter(key=key, is_active=True).first()
    if found is None:
        raise NotFound(_("There is no such programme now."))
    language = _language(request, settings.LANGUAGE_CODE)
    with translation.override(language):
        offered = list(
            Reward.objects.filter(programme=found, is_active=True)
            .prefetch_related("picture")
            .order_by("points", "pk")[:50]
        )
        for one in (found, *offered):
            wallet.speak(one)
        context = {
            "programme": found,
            "plain": wallet.in_plain_words(found),
            "rewards": offered,
            "are_pictured": pictures.shown(offered),
            "language": language,
            "languages": settings.LANGUAGES,
        }
        page = render(request, "loyalty/programme_public.html", context)
    page["Content-Language"] = language
    return page


# --- Pictures ---------------------------------------------------------------------------------------------------------


@public
@require_http_methods(["GET", "HEAD"])
def picture(request: HttpRequest, sha256: str, size: str) -> HttpResponse:
    """The picture of a reward, the same for everybody and for ever; 404 once the reward shows another or none."""
    pace.take("picture", request.META.get("REMOTE_ADDR"), most=PICTURES)
    data = pictures.content(sha256, size)
    if data is None:
        return HttpResponse(status=404, headers={"Cache-Control": "no-store"})
    etag = f'"{sha256}-{size}"'
    answer = HttpResponse(data, content_type=images.MEDIA_TYPE, headers={"Cache-Control": KEEP, "ETag": etag})
    return get_conditional_response(request, etag=etag, response=answer) or answer
