"""The product's Celery app with a Redis that has no patience: ``celery -A tests.chaos.impatient worker``.

What a worker has not finished within two seconds is given to another one as well, as Redis does with everything that
takes longer than its visibility timeout. Each beginning and end of a task is a line in the file ``CHAOS_BODIES``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery.signals import task_postrun, task_prerun

from lifecycle_crm.celery import app

app.conf.broker_transport_options = {**app.conf.broker_transport_options, "visibility_timeout": 2}


def _write(what: str, task_id: str) -> None:
    with Path(os.environ["CHAOS_BODIES"]).open("a") as out:
        out.write(f"{what} {task_id} {os.getpid()}\n")


@task_prerun.connect
def _begins(task_id: str, **_: Any) -> None:
    _write("begins", task_id)


@task_postrun.connect
def _ends(task_id: str, **_: Any) -> None:
    _write("ends", task_id)
