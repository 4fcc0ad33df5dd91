"""What a reward looks like. ``loyalty.pictures`` is the only writer; why the bytes lie here is said in docs/adr/0020."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from lifecycle_crm.lib import clock
from loyalty.models.reward import Reward

LONGEST_ALT = 200


class WithoutBytes(models.Manager["RewardPicture"]):
    """Whoever asks for a picture gets what a page says of it; its bytes are asked for by name."""

    def get_queryset(self) -> models.QuerySet[RewardPicture]:
        return super().get_queryset().defer("large", "small")


class RewardPicture(models.Model):
    """The picture of one reward: the same picture in two sizes as WebP, drawn anew from what was uploaded.

    ``sha256`` names both sizes together and stands in the public address, so what an address gives never changes.
    ``alt`` says in words what it shows.
    """

    class Size(models.TextChoices):
        LARGE = "large"
        SMALL = "small"

    reward = models.OneToOneField(Reward, on_delete=models.CASCADE, related_name="picture", verbose_name=_("reward"))
    sha256 = models.CharField("SHA-256", max_length=64)
    alt = models.CharField(_("What it shows"), max_length=LONGEST_ALT)
    width = models.PositiveSmallIntegerField(_("width"))
    height = models.PositiveSmallIntegerField(_("height"))
    changed_at = models.DateTimeField(_("changed"), default=clock.now)
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    # Last: whoever reads the columns before them walks past no bytes.
    small = models.BinaryField()
    large = models.BinaryField()

    objects = WithoutBytes()

    class Meta:
        verbose_name = _("picture of a reward")
        verbose_name_plural = _("pictures of rewards")
        # Also for reward.picture.
        base_manager_name = "objects"
        indexes: ClassVar = [models.Index(fields=["sha256"], name="loyalty_picture_by_address")]
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(alt=""), name="loyalty_picture_says_what_it_shows"),
            models.CheckConstraint(condition=Q(width__gt=0, height__gt=0), name="loyalty_picture_has_a_size"),
        ]

    def __str__(self) -> str:
        return self.alt

    @property
    def path(self) -> str:
        return self._address(self.Size.LARGE)

    @property
    def small_path(self) -> str:
        return self._address(self.Size.SMALL)

    def _address(self, size: str) -> str:
        return reverse("loyalty:picture", args=[self.sha256, size])
