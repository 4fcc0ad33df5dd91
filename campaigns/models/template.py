"""The words, in as many languages as there are."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from lifecycle_crm.lib import clock


class Purpose(models.TextChoices):
    """Why we write. Marketing and survey need a consent of that name; a service notice follows from the contract."""

    MARKETING = "marketing", _("Offers and news")
    SERVICE = "service", _("Service notice")
    SURVEY = "survey", _("Question about an experience")


class Channel(models.TextChoices):
    EMAIL = "email", _("E-mail")


class Template(models.Model):
    """A text under a stable key. The words are in its variants."""

    key = models.SlugField(_("key"), max_length=60, unique=True)
    name = models.CharField(_("name"), max_length=120)
    purpose = models.CharField(_("purpose"), max_length=12, choices=Purpose.choices, default=Purpose.MARKETING)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("template")
        verbose_name_plural = _("templates")
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class TemplateVariant(models.Model):
    """The words in one language. A variant is never edited: a change is the next version, so a run keeps its text.

    ``blocks`` is the stored form, a list of ``{"type": "heading" | "text" | "button" | "divider", "text": …, "url": …}``
    in order; ``text`` and ``url`` are Liquid. HTML and plain text are made from it (``campaigns/rendering.py``).
    """

    template = models.ForeignKey(Template, on_delete=models.PROTECT, related_name="variants", db_index=False)
    language = models.CharField(_("language"), max_length=5, choices=settings.LANGUAGES)
    version = models.PositiveIntegerField(_("version"), default=1)
    subject = models.CharField(_("subject"), max_length=200)
    blocks = models.JSONField(_("blocks"))
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
