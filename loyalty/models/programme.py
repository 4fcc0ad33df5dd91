"""The rules under which points are earned and kept."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from lifecycle_crm.lib import clock


class Programme(models.Model):
    """The rules under which points are earned and kept. A change holds from then on; recorded entries keep theirs."""

    name = models.CharField(_("name"), max_length=80)
    points_per_unit = models.PositiveIntegerField(
        _("points per unit"), default=1, help_text=_("Points for one whole unit of the shop's currency.")
    )
    pending_days = models.PositiveIntegerField(
        _("pending days"), default=14, help_text=_("Points can be used this many days after the order.")
    )
    expiry_months = models.PositiveIntegerField(
        _("months until expiry"),
        null=True,
        blank=True,
        help_text=_("Counted from the order; the last day is included. Empty: points never expire."),
    )
    value_minor_per_100 = models.PositiveIntegerField(
        _("value of 100 points"), default=100, help_text=_("In hundredths (minor units) of the shop's currency.")
    )
    is_active = models.BooleanField(_("active"), default=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("programme")
        verbose_name_plural = _("programmes")

    def __str__(self) -> str:
        return self.name

    @classmethod
    def current(cls) -> Programme | None:
        """The programme that orders earn in, or ``None`` if none is active."""
        return cls.objects.filter(is_active=True).order_by("pk").first()
