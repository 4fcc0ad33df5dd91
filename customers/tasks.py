"""Rings of the bell for this app. The work is in the database; a task only takes it."""

from __future__ import annotations

from celery import shared_task

from customers import importing


@shared_task
def run_imports() -> None:
    """Take every import that is due; a long one goes back to the queue before the worker's time limit."""
    for run_id in importing.due():
        importing.run(run_id, seconds=300)
