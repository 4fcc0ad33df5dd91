"""What went along with the points when two customers turned out to be one."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from loyalty.models.transfer import Merge


class MergedThing(models.Model):
    """One row that a merge took from the one customer to the other, so that undoing the merge can give it back.

    ``object_id`` is its key in the table that ``kind`` names.
    """

    class Kind(models.TextChoices):
        REDEMPTION = "redemption", pgettext_lazy("merged thing", "Redemption")
        VOUCHER = "voucher", pgettext_lazy("merged thing", "Voucher")
        MEMBERSHIP = "membership", pgettext_lazy("merged thing", "Membership")
        ADVOCATE = "advocate", pgettext_lazy("merged thing", "Friend they brought")
        FRIEND = "friend", pgettext_lazy("merged thing", "Who brought them")
        HOUSEHOLD = "household", pgettext_lazy("merged thing", "Place in a household")
        LEFT = "left", pgettext_lazy("merged thing", "Household they left")

    merge = models.ForeignKey(Merge, on_delete=models.PROTECT, related_name="things", db_index=False)
    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    object_id = models.BigIntegerField(_("number"))

    class Meta:
        verbose_name = _("thing that was merged")
        verbose_name_plural = _("things that were merged")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["merge", "kind", "object_id"], name="loyalty_merged_thing_once"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} #{self.object_id}"
