"""What an accountant signed: the figures of a date as they were, who says so, when, and what was assumed."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from lifecycle_crm.lib import clock
from loyalty.models.programme import Programme


class SignOff(models.Model):
    """A note about what was owed at the end of ``day``. Append-only: the figures stay as they were read.

    A date of a programme has one note that replaces none; one that ``replaces`` another says why, and that other one stays.
    So there is one chain for each date, and its last link is the one that holds. Money in minor units of ``currency``.
    """

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="sign_offs", db_index=False)
    day = models.DateField(_("at the end of"))
    key = models.CharField(_("key"), max_length=255, unique=True)
    note = models.CharField(_("note"), max_length=500)
    pending = models.BigIntegerField(_("pending"))
    available = models.BigIntegerField(_("usable"))
    held = models.BigIntegerField(_("held"))
    debt = models.BigIntegerField(_("owed by customers"))
    liability_minor = models.BigIntegerField(_("worth"))
    currency = models.CharField(_("currency"), max_length=3)
    value_minor_per_100 = models.PositiveIntegerField(_("value of 100 points"))
    redeemed_percent = models.PositiveSmallIntegerField(
        _("expected redemption, percent"), null=True, blank=True, help_text=_("Empty: none was assumed.")
    )
    replaces = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="replaced_by", verbose_name=_("replaces")
    )
    reason = models.CharField(_("why it replaces the other"), max_length=300, blank=True)
    signed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", verbose_name=_("signed by")
    )
    signed_at = models.DateTimeField(_("signed"), default=clock.now, editable=False)

    replayed = False
    """True on one that a verb found under its key instead of making it."""

    class Meta:
        verbose_name = _("sign-off")
        verbose_name_plural = _("sign-offs")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["programme", "day"], condition=Q(replaces=None), name="loyalty_sign_off_once_per_date"
            ),
            models.CheckConstraint(
                condition=Q(replaces=None, reason="") | (Q(replaces__isnull=False) & ~Q(reason="")),
                name="loyalty_sign_off_replaces_with_a_reason",
            ),
            models.CheckConstraint(condition=~Q(replaces=F("id")), name="loyalty_sign_off_replaces_another"),
            models.CheckConstraint(condition=~Q(note=""), name="loyalty_sign_off_says_something"),
        ]
        indexes: ClassVar = [models.Index(fields=["programme", "day"], name="loyalty_sign_off_of_date")]

    def __str__(self) -> str:
        return f"#{self.pk}: {self.day}"

    @property
    def points(self) -> int:
        """Points that could be redeemed then or later."""
        return self.pending + self.available + self.held

    @property
    def expected_minor(self) -> int | None:
        """The worth of what was expected to be redeemed; ``None`` where nothing was assumed."""
        return None if self.redeemed_percent is None else self.liability_minor * self.redeemed_percent // 100
