"""A sender as a process of its own, to be killed: ``python -m tests.campaigns.sender_process safe|unsafe``.

``unsafe`` is the negative control: it marks a chunk after sending it, as many systems do, so that a kill shows
duplicates and the test proves that its kills hit work.
"""

from __future__ import annotations

import smtplib
import sys
import time

import django

CHUNK = 50


def safe() -> None:
    from campaigns import outbox

    while True:
        if not outbox.send_due(limit=CHUNK, seconds=60):
            time.sleep(0.05)


def unsafe() -> None:
    from django.conf import settings

    from campaigns.models import Message
    from lifecycle_crm.lib import clock

    while True:
        rows = list(Message.objects.filter(state="queued").order_by("pk").values_list("pk", "address")[:CHUNK])
        if not rows:
            time.sleep(0.05)
            continue
        with smtplib.SMTP(settings.EMAIL["host"], settings.EMAIL["port"]) as connection:
            for _pk, address in rows:
                connection.sendmail("shop@shop.example", [address], "Subject: x\r\n\r\nx\r\n")
        Message.objects.filter(pk__in=[pk for pk, _address in rows]).update(state="sent", sent_at=clock.now())


if __name__ == "__main__":
    django.setup()
    {"safe": safe, "unsafe": unsafe}[sys.argv[1]]()
