"""Rings of the bell for this app. The work is in the database; a task only takes it."""

from __future__ import annotations

from celery import shared_task

from loyalty import grants


@shared_task
def give_to_many() -> None:
    """Points for sets of people; a long one goes on at the next ring."""
    grants.work(seconds=60)
