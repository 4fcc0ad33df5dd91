"""The circuit breaker: a campaign that draws complaints or bounces stops itself, and a person decides whether it goes on.

The limits are the ones PostHog publishes. Each says: within so many hours, of at least so many messages sent and with at
least so many notices, this share warns and that share stops. What counts is what happened since a person last went on.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from campaigns.models import Campaign, DeliveryEvent, Message
from lifecycle_crm.lib import clock

logger = logging.getLogger(__name__)

Kind = DeliveryEvent.Kind


@dataclass(frozen=True)
class Limit:
    kind: str
    hours: int
    warn: float
    stop: float
    sends: int
    notices: int


LIMITS = (
    Limit(Kind.COMPLAINT, 1, 0.005, 0.01, 200, 5),
    Limit(Kind.COMPLAINT, 24, 0.0015, 0.003, 1000, 10),
    Limit(Kind.HARD_BOUNCE, 1, 0.05, 0.10, 200, 20),
    Limit(Kind.HARD_BOUNCE, 24, 0.025, 0.05, 1000, 50),
)


def judge(limit: Limit, sends: int, notices: int) -> str:
    """``"stop"``, ``"warn"`` or ``""``."""
    if sends < limit.sends or notices < limit.notices:
        return ""
    # In whole numbers: 15 of 5,000 is 0.3 per cent exactly, and a float might say otherwise.
    share, per = notices * 100_000, sends
    return (
        "stop"
        if share >= round(limit.stop * 100_000) * per
        else "warn"
        if share >= round(limit.warn * 100_000) * per
        else ""
    )


def look(campaign: Campaign, now: datetime) -> dict[str, Any]:
    """The worst that a limit says of this campaign at this instant, with its numbers; ``{}`` when all is well."""
    worst: dict[str, Any] = {}
    for limit in LIMITS:
        since = now - timedelta(hours=limit.hours)
        if campaign.fresh_from is not None and campaign.fresh_from > since:
            since = campaign.fresh_from
        notices = (
            DeliveryEvent.objects.filter(
                kind=limit.kind, occurred_at__gt=since, occurred_at__lte=now, message__run__campaign=campaign
            )
            .values("message_id")
            .distinct()
            .count()
        )
        if notices < limit.notices:
            continue
        sends = Message.objects.filter(
            run__campaign=campaign, state__in=("sent", "failed"), sent_at__gt=since, sent_at__lte=now
        ).count()
        refused = (
            Message.objects.filter(
                run__campaign=campaign, state="failed", events__kind=limit.kind, events__occurred_at__gt=since
            ).count()
            if limit.kind == Kind.HARD_BOUNCE
            else 0
        )
        level = judge(limit, sends + refused, notices)
        if level == "stop" or (level and not worst):
            worst = {**asdict(limit), "level": level, "seen": notices, "of": sends + refused, "at": now.isoformat()}
        if level == "stop":
            break
    return worst


def check(now: datetime | None = None) -> list[Campaign]:
    """Look at every active campaign that drew a notice in the last day; those that were stopped by this call."""
    now = now or clock.now()
    recent = DeliveryEvent.objects.filter(
        kind__in=(Kind.HARD_BOUNCE, Kind.COMPLAINT), occurred_at__gt=now - timedelta(days=1)
    )
    named = recent.values_list("message__run__campaign_id", flat=True).distinct()
    stopped = []
    for campaign in Campaign.objects.filter(pk__in=list(named), state=Campaign.State.ACTIVE):
        seen = look(campaign, now)
        if seen.get("level") == "stop":
            if Campaign.objects.filter(pk=campaign.pk, state=Campaign.State.ACTIVE).update(
                state=Campaign.State.PAUSED, alarm=seen
            ):
                logger.error(
                    "%s was stopped: %d of %d messages in %d hours drew a %s.",
                    campaign, seen["seen"], seen["of"], seen["hours"], seen["kind"],
                )  # fmt: skip
                stopped.append(campaign)
        elif seen and seen["kind"] != campaign.alarm.get("kind"):
            Campaign.objects.filter(pk=campaign.pk).update(alarm=seen)
            logger.warning("%s draws more %ss than it should.", campaign, seen["kind"])
    return stopped
