"""Several movements undone at once, with one reason: what was earned or given is taken back, what was spent given back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db import transaction
from django.utils.translation import gettext as _

from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import DomainError, InvalidInput
from loyalty import ledger, rewards
from loyalty.errors import KeyReused
from loyalty.models import Account, Entry

MOST = 200


@dataclass(frozen=True)
class Left:
    """A movement that was not undone, and why."""

    entry: Entry
    why: str


@dataclass(frozen=True)
class Undone:
    """``done`` are the entries that were written, of all sides; ``points`` what they come to. ``replayed``: by an earlier
    request under the same key."""

    done: Sequence[Entry]
    left: Sequence[Left]
    replayed: bool = False

    @property
    def points(self) -> int:
        return sum(one.points for one in self.done)


def why_not(entry: Entry) -> str:
    """Why this movement cannot be undone, as a sentence; empty where it can."""
    if entry.kind in (Entry.Kind.SPEND, Entry.Kind.ADJUST) and entry.points < 0:
        if Entry.objects.filter(reverses=entry).exists():
            return _("These points were given back already.")
        try:
            rewards.keep_together(entry)
        except DomainError as problem:
            return problem.message
        return ""
    if entry.kind not in (Entry.Kind.EARN, Entry.Kind.ADJUST):
        return _("Only earnings, gifts, redemptions and deductions can be undone.")
    if ledger.left_to_take_back(entry) <= 0:
        return _("Nothing is left to take back: these points were taken back or have expired.")
    return ""


def undo_many(*, entries: Sequence[Entry], key: str, actor: User | None, reason: str) -> Undone:
    """Undo up to ``MOST`` movements in one transaction. Those that cannot be are left as they are, with the reason.

    The same request again finds what it wrote and changes nothing. Raises ``InvalidInput`` for none, for too many, and
    without a reason, and ``KeyReused`` for its key with another reason.
    """
    chosen = {one.pk: one for one in entries}
    text = reason.strip()
    if not 0 < len(chosen) <= MOST:
        raise InvalidInput(
            _("Choose 1 to %(most)s movements to undo at once.") % {"most": MOST}, code="invalid_selection"
        )
    if not 0 < len(text) <= 300:
        raise InvalidInput(_("Say why in at most 300 characters: the reason stays with it."), code="reason_required")
    keys = {pk: f"{key}:{pk}" for pk in chosen}
    given = [one for one in chosen.values() if one.points > 0 and one.kind in (Entry.Kind.EARN, Entry.Kind.ADJUST)]
    left: list[Left] = []
    with transaction.atomic():
        # All at once and in order, so that two who do this never wait for each other in a circle.
        accounts = {one.account_id for one in chosen.values()}
        list(Account.objects.select_for_update().filter(pk__in=accounts).order_by("pk").values_list("pk"))
        before = _made(chosen.values(), keys.values())
        if any(one.reason != text for one in before.values()):
            raise KeyReused(_("This key was used for another request. Send a new key for a new request."), key=key)
        refused = {one.pk: why_not(one) for one in chosen.values() if keys[one.pk] not in before}
        now = clock.now()
        # What is given back first, so that nobody comes to owe it in between.
        for one in sorted(chosen.values(), key=lambda one: one.pk):
            if refused.get(one.pk):
                left.append(Left(one, refused[one.pk]))
            elif one.points < 0:
                ledger.cancel_redemption(entry=one, key=keys[one.pk], actor=actor, reason=text)
        ledger.reverse_many(
            [
                ledger.TakeBack(
                    entry_id=one.pk, up_to=one.points, key=keys[one.pk], effective_at=now, reason=text,
                    source_type="entry", source_id=str(one.pk), actor_id=actor.pk if actor else None,
                )
                for one in given
                if not refused.get(one.pk)
            ]
        )  # fmt: skip
        done = _made(chosen.values(), keys.values())
    return Undone(list(done.values()), left, replayed=bool(before) and len(before) == len(done))


def _made(entries: Iterable[Entry], keys: Iterable[str]) -> dict[str, Entry]:
    """What a request wrote: under the key of each movement, and its debt."""
    both = [text for one in keys for text in (one, f"{one}:debt")]
    programmes = {one.programme_id for one in entries}
    found = Entry.objects.filter(programme__in=programmes, key__in=both).select_related("customer").order_by("pk")
    return {one.key: one for one in found}
