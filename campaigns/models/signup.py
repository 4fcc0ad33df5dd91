"""Who asks for our news from outside, and said yes from their own mailbox."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from customers.models import Customer, email_key
from lifecycle_crm.lib import clock

_MARKS = {"confirmed": "ok", "in_doubt": "warn", "failed": "bad", "stopped": "bad"}


class SignUpForm(models.Model):
    """A page where strangers ask for our news, under a stable key that stands in its address.

    ``words`` is, for each language, ``{"title", "text", "consent", "thanks"}``: plain text. Everybody who signed up keeps
    the words they agreed to, so these may be edited.
    """

    key = models.SlugField(_("key"), max_length=60, unique=True)
    name = models.CharField(_("name"), max_length=120)
    words = models.JSONField(_("words"), default=dict)
    asks_name = models.BooleanField(_("asks for a first name"), default=False)
    tag = models.CharField(_("tag"), max_length=100, blank=True, help_text=_("Given to everybody who confirms."))
    archived_at = models.DateTimeField(_("archived"), null=True, blank=True, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("sign-up form")
        verbose_name_plural = _("sign-up forms")
        ordering: ClassVar = ["name", "id"]

    def __str__(self) -> str:
        return self.name


class SignUp(models.Model):
    """One address that asked. No customer, and no consent, before the owner of the mailbox pressed the button.

    ``state`` follows the mail with the link: waiting, sending, asked; then ``confirmed``. Unconfirmed ones are deleted
    after a month; confirmed ones are the proof and stay.
    """

    class State(models.TextChoices):
        WAITING = "waiting", _("Mail waits")
        SENDING = "sending", _("Mail on its way")
        ASKED = "asked", _("Asked to confirm")
        STOPPED = "stopped", _("Not written to")
        FAILED = "failed", _("Mail failed")
        IN_DOUBT = "in_doubt", _("Mail in doubt")
        CONFIRMED = "confirmed", _("Confirmed")

    class Source(models.TextChoices):
        PAGE = "page", _("Page")
        API = "api", _("API")

    form = models.ForeignKey(SignUpForm, on_delete=models.PROTECT, related_name="sign_ups", db_index=False)
    email = models.EmailField(_("e-mail"), max_length=254)
    email_key = models.CharField(max_length=254, editable=False)
    given_name = models.CharField(_("first name"), max_length=100, blank=True)
    language = models.CharField(_("language"), max_length=5)
    consent_text = models.TextField(_("agrees to"), help_text=_("The words that stood beside the button."))
    wording = models.CharField(_("wording version"), max_length=40)
    source = models.CharField(_("source"), max_length=4, choices=Source.choices, default=Source.PAGE)
    ip = models.GenericIPAddressField(_("asked from"), null=True, blank=True)
    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.WAITING)
    mails = models.PositiveSmallIntegerField(_("mails"), default=1, help_text=_("How often the link was asked for."))
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    attempt = models.PositiveIntegerField(default=0)
    owner = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(_("due"), default=clock.now)
    asked_at = models.DateTimeField(_("mail sent"), null=True, blank=True)
    transport = models.CharField(_("sent by"), max_length=8, blank=True)
    error = models.CharField(_("answer of the mail server"), max_length=500, blank=True)
    confirmed_at = models.DateTimeField(_("confirmed"), null=True, blank=True)
    confirmed_ip = models.GenericIPAddressField(_("confirmed from"), null=True, blank=True)
    customer = models.ForeignKey(
        Customer, null=True, blank=True, on_delete=models.PROTECT, related_name="sign_ups", db_index=False
    )
    created_at = models.DateTimeField(_("asked for it"), default=clock.now, editable=False)

    class Meta:
        verbose_name = _("sign-up")
        verbose_name_plural = _("sign-ups")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["form", "email_key"], condition=~Q(state="confirmed"), name="campaigns_signup_once_while_open"
            ),
            models.CheckConstraint(
                condition=Q(state="confirmed", confirmed_at__isnull=False, customer__isnull=False)
                | (~Q(state="confirmed") & Q(confirmed_at__isnull=True, customer__isnull=True)),
                name="campaigns_signup_is_somebody_when_confirmed",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["form", "-id"], name="campaigns_signup_of_form"),
            models.Index(fields=["customer"], condition=Q(customer__isnull=False), name="campaigns_signup_customer"),
            models.Index(
                fields=["due_at", "id"], condition=Q(state__in=["waiting", "sending"]), name="campaigns_signup_due"
            ),
            models.Index(fields=["created_at"], condition=~Q(state="confirmed"), name="campaigns_signup_open"),
        ]

    def __str__(self) -> str:
        return f"#{self.pk} {self.state}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.email_key = email_key(self.email) or ""
        super().save(*args, **kwargs)

    @property
    def mark(self) -> str:
        """The kind of mark a page sets beside the state."""
        return _MARKS.get(self.state, "neutral")
