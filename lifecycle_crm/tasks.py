"""What beat and the bell ring for. The work is found in the database."""

from __future__ import annotations

import logging
from datetime import timedelta

from celery import shared_task

from campaigns.signups import mailing
from lifecycle_crm import night, reactions
from lifecycle_crm.api import idempotency
from lifecycle_crm.lib import clock
from stages import backtest

logger = logging.getLogger(__name__)


@shared_task(name="lifecycle_crm.tasks.react")
def react() -> None:
    done = reactions.run()
    if done:
        logger.info("Reacted: %s", dict(done))


@shared_task(name="lifecycle_crm.tasks.night_tick")
def night_tick() -> None:
    for run in night.tick():
        logger.info("Night of %s: %s %s", run.business_date, run.state, run.counts)


@shared_task(name="lifecycle_crm.tasks.replay_rules")
def replay_rules() -> None:
    for done in backtest.work(hand_down=reactions.hand_down, happened=reactions.HANDED_FROM):
        logger.info("%s: %s", done, done.state)


@shared_task(name="lifecycle_crm.tasks.tidy")
def tidy() -> None:
    """Answers kept for repeated requests are promised for seven days; addresses nobody confirmed go after a month."""
    idempotency.forget(before=clock.now() - timedelta(days=7))
    mailing.forget_unconfirmed()
