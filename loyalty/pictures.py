"""The picture of a reward: put it there, say what it shows, take it away, give it out.

A picture and its words are one row that is written at once: of two people who upload at the same moment the later one
wins wholly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

from django.utils.translation import gettext as _

from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock, images
from lifecycle_crm.lib.errors import InvalidInput, NotFound
from loyalty.errors import WrongState
from loyalty.models import Reward, RewardPicture
from loyalty.models.picture import LONGEST_ALT


def put(*, reward: Reward, file: BinaryIO, alt: str, actor: User | None) -> RewardPicture:
    """Show this picture with the reward, in place of the one it had. ``file``: a JPEG, PNG or WebP of at most 8 MB.

    ``alt`` says in up to 200 characters what it shows. Raises ``InvalidInput`` without words, or as ``lib.images.draw`` does
    for a file that is no picture, too large or damaged; then the one before stays.
    """
    words = _words(alt)
    drawn = images.draw(file)
    row = RewardPicture(
        reward=reward,
        sha256=drawn.sha256,
        alt=words,
        width=drawn.width,
        height=drawn.height,
        changed_at=clock.now(),
        changed_by=actor,
        small=drawn.small,
        large=drawn.large,
    )
    # One statement: no moment in which the words of one picture stand beside the bytes of another.
    RewardPicture.objects.bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["reward"],
        update_fields=["sha256", "alt", "width", "height", "changed_at", "changed_by", "small", "large"],
    )
    return row


def describe(*, reward: Reward, alt: str, seen: str, actor: User | None) -> RewardPicture:
    """Say anew what the picture shows. ``seen`` is the SHA-256 of the picture that the words are about.

    Raises ``InvalidInput`` without words, ``NotFound`` where there is no picture, ``WrongState`` where there is another by now.
    """
    words = _words(alt)
    same = RewardPicture.objects.filter(reward=reward, sha256=seen)
    if same.update(alt=words, changed_at=clock.now(), changed_by=actor) != 1:
        raise _other_by_now(reward)
    return _now(reward)


def remove(*, reward: Reward, seen: str = "") -> None:
    """Show none. A reward without one stays as it is; with ``seen``, one that is not that picture raises ``WrongState``."""
    found = RewardPicture.objects.filter(reward=reward)
    gone, _by_model = (found.filter(sha256=seen) if seen else found).delete()
    if not gone and found.exists():
        raise _other_by_now(reward)


def content(sha256: str, size: str) -> bytes | None:
    """What a public address gives: WebP, or ``None`` for a picture that is not shown with any reward now."""
    if size not in RewardPicture.Size.values:
        return None
    found = RewardPicture.objects.filter(sha256=sha256).values_list(size, flat=True).first()
    return None if found is None else bytes(found)


def shown(rewards: Iterable[Reward]) -> bool:
    """Whether any of them has a picture, so that a list of them makes room for all."""
    return any(getattr(reward, "picture", None) is not None for reward in rewards)


def problems() -> list[str]:
    """A sentence for each picture whose bytes are not those that were stored."""
    rows = RewardPicture.objects.order_by("pk").values_list("reward__name", "sha256", "large", "small")
    return [
        _("The picture of “%(name)s” is not what was stored. Upload it again.") % {"name": name}
        for name, sha256, large, small in rows.iterator(chunk_size=20)
        if images.digest(bytes(large), bytes(small)) != sha256
    ]


def _words(alt: str) -> str:
    words = " ".join(alt.split())
    if not words:
        raise InvalidInput(_("Describe the picture for those who do not see it."), code="alt_required")
    if len(words) > LONGEST_ALT:
        raise InvalidInput(
            _("What the picture shows is said in at most %(most)d characters.") % {"most": LONGEST_ALT},
            code="alt_too_long",
        )
    return words


def _now(reward: Reward) -> RewardPicture:
    found = RewardPicture.objects.filter(reward=reward).first()
    if found is None:
        raise NotFound(_("“%(name)s” has no picture. Choose one first.") % {"name": reward.name}, code="no_picture")
    return found


def _other_by_now(reward: Reward) -> WrongState:
    now = _now(reward)
    return WrongState(
        _("Somebody changed the picture meanwhile. Look at it, then say what it shows."), sha256=now.sha256
    )
