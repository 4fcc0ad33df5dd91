"""A run's life: begin, wait for a person, pause, resume, cancel, finish. What left already cannot be called back."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Q

from campaigns import limits
from campaigns.errors import NotNow
from campaigns.models import Campaign, Message, Run, SendingRules, Slot
from lifecycle_crm.lib import batches, bell, clock
from lifecycle_crm.lib.moments import parameter

State, Reason = Message.State, Message.Reason


def begin(*, run: Run) -> bool:
    """Let a planned run (or a finished one that got more rows) send. False for one that waits, is paused or cancelled."""
    began = Run.objects.filter(pk=run.pk, state__in=(Run.State.PLANNED, Run.State.FINISHED)).update(
        state=Run.State.SENDING, finished_at=None
    )
    bell.ring("campaigns.tasks.send_due")
    return began == 1


def confirm(*, run: Run, user: Any = None) -> Run:
    """A person says yes to a run that the audience guard stopped. Raises ``NotNow`` when it does not wait."""
    with transaction.atomic():
        if run.guard.get("limit") and user is not None and user.pk == run.campaign.created_by_id:
            raise NotNow(
                "A send to so many people needs a second person. Ask somebody else to look and press the button."
            )
        if (
            Run.objects.filter(pk=run.pk, state=Run.State.NEEDS_CONFIRMATION).update(
                state=Run.State.SENDING, confirmed_by=user
            )
            != 1
        ):
            raise NotNow("This run does not wait for a confirmation. Reload the page to see how it stands.")
        _make_due(run)
    run.refresh_from_db()
    bell.ring("campaigns.tasks.send_due")
    return run


def pause(*, run: Run) -> Run:
    """Stop within one message per sender; ``resume`` goes on where it stopped."""
    if Run.objects.filter(pk=run.pk, state=Run.State.SENDING).update(state=Run.State.PAUSED) != 1:
        raise NotNow("Only a run that is sending can be paused.")
    run.refresh_from_db()
    return run


def resume(*, run: Run) -> Run:
    """Go on. What came due during the pause is due now: the pause was a person's decision, not an outage."""
    with transaction.atomic():
        if Run.objects.filter(pk=run.pk, state=Run.State.PAUSED).update(state=Run.State.SENDING) != 1:
            raise NotNow("Only a paused run can be resumed.")
        _make_due(run)
    run.refresh_from_db()
    bell.ring("campaigns.tasks.send_due")
    return run


def pause_campaign(*, campaign: Campaign) -> Campaign:
    """Nothing of this campaign leaves, and nights plan nothing for it, until it is resumed."""
    if Campaign.objects.filter(pk=campaign.pk, state=Campaign.State.ACTIVE).update(state=Campaign.State.PAUSED) != 1:
        raise NotNow("Only an active campaign can be paused.")
    campaign.refresh_from_db()
    return campaign


def resume_campaign(*, campaign: Campaign) -> Campaign:
    with transaction.atomic():
        paused = Campaign.objects.filter(pk=campaign.pk, state=Campaign.State.PAUSED)
        if paused.update(state=Campaign.State.ACTIVE, alarm={}, fresh_from=clock.now()) != 1:
            raise NotNow("Only a paused campaign can be resumed.")
        for run in campaign.runs.filter(state=Run.State.SENDING):
            _make_due(run)
    campaign.refresh_from_db()
    bell.ring("campaigns.tasks.send_due")
    return campaign


def _make_due(run: Run) -> None:
    now = clock.now()
    waiting = Message.objects.filter(run=run, state__in=(State.QUEUED, State.RETRY))
    waiting.filter(Q(due_at__lt=now) | Q(reason=Reason.THROTTLED)).update(due_at=now)
    limits.forget_turns()


def cancel(*, run: Run) -> int:
    """Send nothing more of this run; how many messages were called off. What already left cannot be called back."""
    with transaction.atomic():
        stopped = Run.objects.filter(
            pk=run.pk,
            state__in=(Run.State.PLANNED, Run.State.NEEDS_CONFIRMATION, Run.State.SENDING, Run.State.PAUSED),
        ).update(state=Run.State.CANCELLED, finished_at=clock.now())
        if stopped != 1:
            raise NotNow("This run is over already, so there is nothing to cancel.")
        count = Message.objects.filter(run=run, state__in=(State.QUEUED, State.RETRY, State.CLAIMED)).update(
            state=State.CANCELLED, reason=Reason.CANCELLED, owner="", lease_until=None
        )
        Slot.objects.filter(message__run=run, message__state=State.CANCELLED).delete()
    run.refresh_from_db()
    return count


def ask_when_large(run: Run) -> bool:
    """Let a run wait for a second person if it is larger than one alone may send. True when it waits."""
    limit = SendingRules.current().approve_above
    if limit is None or run.audience <= limit:
        return False
    return bool(
        Run.objects.filter(pk=run.pk, state=Run.State.PLANNED).update(
            state=Run.State.NEEDS_CONFIRMATION, guard={"people": run.audience, "limit": limit}
        )
    )


def finish_runs() -> int:
    """Close the runs that have nothing open any more. In doubt is not open: we will not send it."""
    return batches.execute(
        "UPDATE campaigns_run SET state = 'finished', finished_at = %s WHERE state = 'sending' AND NOT EXISTS "
        "(SELECT 1 FROM campaigns_message m WHERE m.run_id = campaigns_run.id AND m.state IN "
        "('queued', 'retry', 'claimed', 'sending'))",
        [parameter(clock.now())],
    )
