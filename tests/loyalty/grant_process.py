"""A worker that gives points to many as a process of its own, to be killed: ``python -m tests.loyalty.grant_process
safe|unsafe``.

``unsafe`` is the negative control: it gives the points of a batch and only then, in a commit of its own, says who has them.
"""

from __future__ import annotations

import sys
import time
import uuid

import django


def safe() -> None:
    from loyalty import grants

    grants.BATCH = 10
    while True:
        if not grants.work(seconds=60):
            time.sleep(0.05)


def unsafe() -> None:
    from loyalty import ledger
    from loyalty.models import GrantPerson

    while True:
        rows = list(GrantPerson.objects.filter(state="waiting").select_related("customer").order_by("pk")[:20])
        for row in rows:
            ledger.adjust(customer=row.customer, points=10, key=str(uuid.uuid4()), actor=None, reason="Twin")
        GrantPerson.objects.filter(pk__in=[row.pk for row in rows]).update(state="given")
        time.sleep(0.02)


if __name__ == "__main__":
    django.setup()
    {"safe": safe, "unsafe": unsafe}[sys.argv[1]]()
