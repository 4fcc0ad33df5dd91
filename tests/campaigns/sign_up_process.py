"""A worker that mails sign-up links as a process of its own, to be killed: ``python -m tests.campaigns.sign_up_process
safe|unsafe``. The mail server's port is in ``EMAIL_URL``.

``unsafe`` is the negative control: it mails first and says so afterwards.
"""

from __future__ import annotations

import sys
import time

import django


def safe() -> None:
    from campaigns.signups import mailing

    while True:
        if not mailing.send_due(limit=20):
            time.sleep(0.05)


def unsafe() -> None:
    from campaigns.channels import email
    from campaigns.models import SignUp
    from campaigns.signups import mailing

    while True:
        rows = list(SignUp.objects.filter(state="waiting").select_related("form").order_by("pk")[:20])
        session = email.open_session()
        for row in rows:
            row.owner, row.attempt = "twin", 0
            mailing._send(row, session)
        session.close()
        SignUp.objects.filter(pk__in=[row.pk for row in rows]).update(state="asked")


if __name__ == "__main__":
    django.setup()
    {"safe": safe, "unsafe": unsafe}[sys.argv[1]]()
