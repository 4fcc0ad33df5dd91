"""Faults 18 and 19: machines that open every link of every message before anybody reads it. Nothing may come of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from campaigns import tracking
from campaigns.models import Message, Suppression, Visit
from customers.models import Consent, CustomerFacts, DirtyCustomer
from feedback import links as survey_links
from feedback.models import Answer, Invitation, Response
from lifecycle_crm import reactions
from stages.models import StageTransition
from tests.campaigns.factories import NOON, people
from tests.campaigns.test_tracking import BROWSER, sent_to, urls_in
from tests.chaos import plan
from tests.feedback.factories import invite
from tests.fixtures import MailServer

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]

MAILS = 1000 if plan.IS_LONG else 120


def test_a_scanner_presses_every_link_of_every_mail_and_nothing_comes_of_it(
    smtp: MailServer,
    noon: Any,
    client: Client,
    tell: Callable[..., None],
) -> None:
    """18: it looks like a browser, comes from one place, and presses all of a mail at once, mail after mail."""
    run = sent_to(smtp, people(MAILS))
    assert Message.objects.filter(run=run, state="sent").count() == MAILS
    before, pressed = Consent.objects.count(), 0
    for number, received in enumerate(smtp.messages):
        noon.move_to(NOON + timedelta(seconds=60 + number * 0.5))
        page = received.message.get_body(("html",)).get_content()
        for url in re.findall(r'http://127\.0\.0\.1:8000(/p/[^"]+)', page):
            assert client.get(url, **BROWSER).status_code in (200, 302)
            pressed += 1
    assert pressed == 5 * MAILS  # three links, the picture and the way out
    noon.move_to(NOON + timedelta(hours=1))
    assert tracking.judge() == 4 * MAILS
    kinds = list(Visit.objects.values_list("kind", flat=True))
    tell(mails=MAILS, pressed=pressed, taken_for_machines=kinds.count("machine"))
    assert kinds.count("human") == 0
    assert kinds.count("machine") >= 0.95 * len(kinds)
    reactions.run(seconds=30)
    assert Consent.objects.count() == before
    assert Suppression.objects.count() == 0
    assert Response.objects.count() == 0
    assert StageTransition.objects.count() == 0
    assert not CustomerFacts.objects.filter(clicked_at__isnull=False).exists()


def test_a_scanner_opens_every_score_of_every_survey_and_nobody_has_answered(tell: Callable[..., None]) -> None:
    """18: the links of a survey, with a score in each."""
    visitor = Client(enforce_csrf_checks=True)
    invitations = [invite(one) for one in people(MAILS // 10)]
    for link in invitations:
        path = survey_links.survey_path(link)
        for score in range(11):
            assert visitor.get(f"{path}?score={score}").status_code == 200
    assert visitor.head(survey_links.survey_path(invitations[0])).status_code == 200
    tell(pressed=11 * len(invitations))
    assert Response.objects.count() == Answer.objects.count() == DirtyCustomer.objects.count() == 0
    assert Invitation.objects.filter(opened_at=None).count() == 0


def test_a_proxy_opens_every_mail_and_counts_as_a_machine(
    smtp: MailServer,
    noon: Any,
    client: Client,
    tell: Callable[..., None],
) -> None:
    """19: a mailbox provider that fetches every picture."""
    opened = MAILS // 2
    sent_to(smtp, people(opened))
    noon.move_to(NOON + timedelta(minutes=1))
    for received in smtp.messages:
        client.get(urls_in(received)[-1], HTTP_USER_AGENT="Mozilla/5.0 (via ggpht.com GoogleImageProxy)")
    noon.move_to(NOON + timedelta(minutes=2))
    tell(opened=opened)
    assert tracking.judge() == opened
    assert set(Visit.objects.values_list("kind", flat=True)) == {"machine"}
