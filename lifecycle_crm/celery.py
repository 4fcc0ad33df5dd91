"""When things run. Celery is only the bell: every piece of work is a row, and a task asks the database what is due.

The schedule is static and ticks in UTC. Each ring expires before the next one, so a worker that was away finds one ring
per task and not a day of them. A ring that never arrives makes us late by one interval, never wrong.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from celery import Celery
from celery.signals import after_setup_logger, task_postrun, worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lifecycle_crm.settings")

from django.conf import settings

from lifecycle_crm.lib import bell, health

TIDY = "lifecycle_crm.celery.tidy_broker"


def every(seconds: float, task: str) -> dict[str, Any]:
    return {"task": task, "schedule": seconds, "options": {"expires": seconds}}


app = Celery("lifecycle_crm")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.broker_transport_options = bell.transport_options(settings.CELERY_BROKER_URL)
# Plain in-memory scheduler: all entries are "every n seconds: what is due?", so there is no position worth keeping in a
# file, and no file that a power cut could leave unreadable.
app.conf.beat_scheduler = "celery.beat:Scheduler"
app.conf.beat_max_loop_interval = 5
app.conf.beat_schedule = {
    "reactions": every(5, "lifecycle_crm.tasks.react"),
    "outbox": every(10, "campaigns.tasks.send_due"),
    "journeys": every(30, "campaigns.tasks.advance_journeys"),
    "sign-ups": every(30, "campaigns.tasks.mail_sign_ups"),
    "carts": every(60, "campaigns.tasks.find_carts"),
    "webhooks": every(10, "campaigns.tasks.post_webhooks"),
    "visits": every(30, "campaigns.tasks.judge_visits"),
    "imports": every(30, "customers.tasks.run_imports"),
    "grants": every(30, "loyalty.tasks.give_to_many"),
    "night": every(60, "lifecycle_crm.tasks.night_tick"),
    "rules": every(30, "lifecycle_crm.tasks.replay_rules"),
    "tidy": every(3600, "lifecycle_crm.tasks.tidy"),
}
if bell.is_embedded(settings.CELERY_BROKER_URL):
    app.conf.beat_schedule["broker"] = every(600, TIDY)
app.autodiscover_tasks()


@app.task(name=TIDY)
def tidy_broker() -> None:
    """The embedded broker keeps every delivered message; without this its file grows by 30,000 rows a day."""
    bell.purge_delivered()


@after_setup_logger.connect
def _be_brief(**_: Any) -> None:
    """Two lines for every ring are 60,000 a day that say nothing. What a task did, it logs itself."""
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)


@worker_ready.connect
def _here(**_: Any) -> None:
    health.beat()


@task_postrun.connect
def _answered(**_: Any) -> None:
    """A finished task proves the whole chain (beat, broker, worker), so this is what health reads as a heartbeat."""
    health.beat()
