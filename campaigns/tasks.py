from __future__ import annotations

import logging

from celery import shared_task

from campaigns import hooks, outbox, tracking
from campaigns.journeys import engine, entering
from campaigns.signups import mailing

logger = logging.getLogger(__name__)


@shared_task(name="campaigns.tasks.send_due")  # type: ignore[untyped-decorator]
def send_due() -> None:
    """Send what is due. Several may run at once: messages are claimed, so none is sent by two."""
    counts = outbox.send_due()
    if counts:
        logger.info("outbox: %s", counts)


@shared_task(name="campaigns.tasks.advance_journeys")  # type: ignore[untyped-decorator]
def advance_journeys() -> None:
    """Move who is due in a journey. Several may run at once: each batch is one transaction."""
    counts = engine.advance_due()
    if counts:
        logger.info("journeys: %s", dict(counts))


@shared_task(name="campaigns.tasks.find_carts")  # type: ignore[untyped-decorator]
def find_carts() -> None:
    """Let people in whose cart was left behind for as long as a journey says."""
    if count := entering.for_carts():
        logger.info("carts: %s", count)


@shared_task(name="campaigns.tasks.post_webhooks")  # type: ignore[untyped-decorator]
def post_webhooks() -> None:
    """Tell other systems what is due. Several may run at once: deliveries are claimed."""
    counts = hooks.send_due()
    if counts:
        logger.info("webhooks: %s", dict(counts))


@shared_task(name="campaigns.tasks.judge_visits")  # type: ignore[untyped-decorator]
def judge_visits() -> None:
    """Say of the visits that have waited long enough who they were."""
    tracking.judge()


@shared_task(name="campaigns.tasks.mail_sign_ups")  # type: ignore[untyped-decorator]
def mail_sign_ups() -> None:
    """Mail those who asked for our news the link to confirm with. Several may run at once: rows are claimed."""
    counts = mailing.send_due()
    if counts:
        logger.info("sign-ups: %s", counts)
