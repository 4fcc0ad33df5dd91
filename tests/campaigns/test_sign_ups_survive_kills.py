"""Workers that mail sign-up links are killed while they do: nobody is mailed twice for one press, nobody is forgotten."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable

import pytest

from campaigns.models import SignUp
from campaigns.signups import asking, editing, mailing
from tests.fixtures import MailServer, kill, wait_until

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

SIZE = 120

Start = Callable[[str], subprocess.Popen]


@pytest.fixture
def mailer(beside: Callable[..., subprocess.Popen], smtp: MailServer, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setenv("EMAIL_URL", smtp.url)
    return lambda mode: beside("tests.campaigns.sign_up_process", mode)


def crowd() -> None:
    form = editing.create(name="News")
    for n in range(SIZE):
        asking.ask(form=form, email=f"p{n}@shop.example", language="en")
    mailing.template()


def kills(smtp: MailServer, mailer: Start, mode: str, times: int) -> int:
    """So many workers killed one after the other at work; how many kills left somebody waiting."""
    hits = 0
    for part in range(1, times + 1):
        victim = mailer(mode)
        wait_until(lambda then=part: len(smtp.messages) >= 25 * then, seconds=60)
        kill(victim)
        hits += SignUp.objects.filter(state="waiting").exists()
    return hits


def test_nobody_is_mailed_twice_and_nobody_is_forgotten(smtp: MailServer, mailer: Start) -> None:
    crowd()
    hits = kills(smtp, mailer, "safe", 3)
    mailer("safe")
    wait_until(lambda: not SignUp.objects.filter(state="waiting").exists(), seconds=90)
    wait_until(lambda: SignUp.objects.filter(state="sending").count() <= hits, seconds=30)
    assert hits == 3, "The kills found nobody at work, so this test proves nothing."
    mailed = Counter(one.recipients[0] for one in smtp.messages)
    assert set(mailed.values()) == {1}
    states = Counter(SignUp.objects.values_list("state", flat=True))
    # A kill leaves at most one on its way; whether it left, nobody knows, so it is in doubt once its lease is over.
    assert set(states) <= {"asked", "sending"}
    assert states["sending"] <= 3
    assert len(mailed) >= states["asked"]


def test_its_unsafe_twin_that_says_so_after_mailing_does_mail_twice(smtp: MailServer, mailer: Start) -> None:
    crowd()
    kills(smtp, mailer, "unsafe", 1)
    mailer("unsafe")
    wait_until(lambda: not SignUp.objects.filter(state="waiting").exists(), seconds=90)
    assert max(Counter(one.recipients[0] for one in smtp.messages).values()) > 1
