"""Sign-up forms and their words: made, changed, archived."""

from __future__ import annotations

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import translation
from django.utils.text import slugify
from django.utils.translation import gettext as _

from campaigns.models import SignUpForm
from customers import tagging
from customers.identity import text as checked
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock, keys
from lifecycle_crm.lib.errors import Conflict, InvalidInput, NotFound

PARTS = {"title": 120, "text": 600, "consent": 600, "thanks": 300}
"""What is said in each language, and the most letters it may have."""


def get(key: str) -> SignUpForm:
    """The form of this key. Raises ``NotFound``."""
    found = SignUpForm.objects.filter(key=key).first()
    if found is None:
        raise NotFound(_("There is no sign-up form “%(key)s”. The list names them all.") % {"key": key})
    return found


def first_words() -> dict[str, dict[str, str]]:
    """What a new form says, in each of our languages."""
    words = {}
    for code, _name in settings.LANGUAGES:
        with translation.override(code):
            shop = settings.SHOP_NAME
            words[code] = {
                "title": str(_("News from %(shop)s")) % {"shop": shop},
                "text": str(_("New things, offers and ideas, now and then by e-mail.")),
                "consent": str(
                    _(
                        "I want news and offers from %(shop)s by e-mail. I can stop at any time, with one press in every mail."
                    )
                )
                % {"shop": shop},
                "thanks": str(_("You will hear from us. Every mail has a link to stop.")),
            }
    return words


def create(
    *, name: str, key: str = "", tag: str = "", asks_name: bool = False, actor: User | None = None
) -> SignUpForm:
    """A form that works at once, in all our languages. Raises ``InvalidInput``, or ``Conflict`` when the key is taken."""
    name = _named(name)
    if key and (slugify(key) != key or len(key) > 60):
        raise InvalidInput(_("A key is small letters, digits and hyphens, at most 60."), field="key")
    try:
        with transaction.atomic():
            return SignUpForm.objects.create(
                key=key or keys.free(SignUpForm.objects.all(), name, "sign-up"), name=name, tag=_tag(tag),
                asks_name=asks_name, words=first_words(), created_by=actor,
            )  # fmt: skip
    except IntegrityError:
        raise Conflict(_("There is a sign-up form with this key already. Choose another.")) from None


def change(*, form: SignUpForm, name: str, tag: str, asks_name: bool) -> SignUpForm:
    """Another name, tag or question. Its key, and with it its address, stays."""
    form.name, form.tag, form.asks_name = _named(name), _tag(tag), asks_name
    form.save(update_fields=["name", "tag", "asks_name"])
    return form


def write(*, form: SignUpForm, language: str, words: dict[str, str]) -> SignUpForm:
    """What it says in one language. Who signed up before keeps the words they read. Raises ``InvalidInput``."""
    if language not in dict(settings.LANGUAGES):
        raise InvalidInput(_("We do not write in “%(code)s”. Choose one of the languages.") % {"code": language})
    said = {}
    for part, most in PARTS.items():
        said[part] = checked(words.get(part, ""), part, most)
        if not said[part]:
            raise InvalidInput(_("Write something here."), field=part)
    with transaction.atomic():
        # Read again under the lock: two people may be writing two languages.
        fresh = SignUpForm.objects.select_for_update().get(pk=form.pk)
        fresh.words = {**fresh.words, language: said}
        fresh.save(update_fields=["words"])
    return fresh


def archive(*, form: SignUpForm) -> SignUpForm:
    """Nobody can sign up here any more. What was asked before can still be confirmed."""
    SignUpForm.objects.filter(pk=form.pk, archived_at=None).update(archived_at=clock.now())
    form.refresh_from_db()
    return form


def bring_back(*, form: SignUpForm) -> SignUpForm:
    SignUpForm.objects.filter(pk=form.pk).update(archived_at=None)
    form.refresh_from_db()
    return form


def _named(name: str) -> str:
    name = checked(" ".join(name.split()), "name", 120)
    if not name:
        raise InvalidInput(_("Give it a name that your team knows it by."), field="name")
    return name


def _tag(tag: str) -> str:
    return tagging.check(tag) if tag.strip() else ""
