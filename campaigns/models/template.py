"""The words, in as many languages as there are."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from customers.models import Consent
from lifecycle_crm.lib import clock


class Purpose(models.TextChoices):
    """Why we write. Marketing and survey need a consent of that name; a service notice follows from the contract."""

    MARKETING = "marketing", _("Offers and news")
    SERVICE = "service", _("Service notice")
    SURVEY = "survey", _("Question about an experience")


Channel = Consent.Channel
"""How a message is sent: each way has a consent of its own."""


class Template(models.Model):
    """A text under a stable key. The words are in its variants."""

    key = models.SlugField(_("key"), max_length=60, unique=True)
    name = models.CharField(_("name"), max_length=120)
    purpose = models.CharField(_("purpose"), max_length=12, choices=Purpose.choices, default=Purpose.MARKETING)
    channel = models.CharField(
        _("channel"), max_length=8, choices=Channel.choices, default=Channel.EMAIL,
        help_text=_("What a campaign says it over. It never changes."),
    )  # fmt: skip
    archived_at = models.DateTimeField(_("archived"), null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("template")
        verbose_name_plural = _("templates")
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class TemplateVariant(models.Model):
    """The words in one language. A variant is never edited: a change is the next version, so a run keeps its text.

    ``blocks`` is the stored form, a list of ``{"type": "text", "text": …}`` in order; what kinds there are and what each
    holds is said in ``campaigns/blocks.py``. Texts and addresses are Liquid. HTML and plain text are made from it
    (``campaigns/rendering.py``). An SMS has no subject and one block of text, which is plain (``campaigns/texting.py``).
    """

    template = models.ForeignKey(Template, on_delete=models.PROTECT, related_name="variants", db_index=False)
    language = models.CharField(_("language"), max_length=5, choices=settings.LANGUAGES)
    version = models.PositiveIntegerField(_("version"), default=1)
    subject = models.CharField(_("subject"), max_length=200, blank=True)
    blocks = models.JSONField(_("blocks"))
    note = models.CharField(_("note"), max_length=200, blank=True, help_text=_("Why there is this version."))
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("template text")
        verbose_name_plural = _("template texts")
        ordering: ClassVar = ["template", "language", "-version"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["template", "language", "version"], name="campaigns_variant_once_per_version"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.language} {self.version}: {self.subject}"


class TemplateDraft(models.Model):
    """What is being written in one language and goes to nobody until it is saved as the next version.

    ``revision`` counts changes, so that of two people who change the same words the second is told; ``base`` is the
    version it began with (0: none). ``before`` is what the last change replaced, for one step back.
    """

    template = models.ForeignKey(Template, on_delete=models.CASCADE, related_name="drafts", db_index=False)
    language = models.CharField(_("language"), max_length=5, choices=settings.LANGUAGES)
    subject = models.CharField(_("subject"), max_length=200, blank=True)
    blocks = models.JSONField(_("blocks"), default=list, blank=True)
    before = models.JSONField(null=True, blank=True, editable=False)
    base = models.PositiveIntegerField(_("began with version"), default=0)
    revision = models.PositiveIntegerField(default=1)
    edited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    edited_at = models.DateTimeField(_("edited"), default=clock.now)

    class Meta:
        verbose_name = _("draft of a text")
        verbose_name_plural = _("drafts of texts")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["template", "language"], name="campaigns_draft_once_per_language"),
        ]

    def __str__(self) -> str:
        return f"{self.language} ({self.base}): {self.subject}"


class TrialMessage(models.Model):
    """Somebody of the team sent themselves a text as one customer would get it. It is no message of a campaign: no figure,
    no limit and no fact knows of it. Kept because a customer's data went to somebody's mailbox."""

    class State(models.TextChoices):
        SENDING = "sending", _("On its way")
        SENT = "sent", _("Sent")
        FAILED = "failed", _("Failed")

    template = models.ForeignKey(Template, on_delete=models.PROTECT, related_name="trials", db_index=False)
    language = models.CharField(_("language"), max_length=5)
    version = models.PositiveIntegerField(_("version"), default=0, help_text=_("0: the draft of that moment."))
    customer = models.ForeignKey(
        "customers.Customer", null=True, blank=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    sent_to = models.CharField(_("sent to"), max_length=254)
    sent_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.SENDING)
    transport = models.CharField(_("sent by"), max_length=8, blank=True)
    error = models.CharField(_("answer of the server"), max_length=500, blank=True)
    created_at = models.DateTimeField(_("created"), default=clock.now, editable=False)

    class Meta:
        verbose_name = _("test message")
        verbose_name_plural = _("test messages")
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [models.Index(fields=["template", "-id"], name="campaigns_trial_of_template")]

    def __str__(self) -> str:
        return f"{self.language} {self.sent_to}"
