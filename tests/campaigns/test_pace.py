"""How fast a server takes messages is learned from its answers: by a clock of its own, and from a real server."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field

import pytest

from campaigns import carriers, outbox
from campaigns.channels import email
from campaigns.models import Message
from campaigns.pace import Pace
from tests.campaigns.factories import CampaignFactory, people, planned


@dataclass
class Server:
    """Takes ``limit`` messages in any ``window`` seconds and says no to the others, as providers do."""

    limit: int
    window: float
    now: float = 1_000.0
    taken: deque[float] = field(default_factory=deque)
    refused: int = 0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def takes(self) -> bool:
        self.now += 0.001
        while self.taken and self.taken[0] <= self.now - self.window:
            self.taken.popleft()
        if len(self.taken) >= self.limit:
            self.refused += 1
            return False
        self.taken.append(self.now)
        return True


def send(server: Server, pace: Pace, seconds: float) -> int:
    """How many messages got through in so many seconds."""
    end, took = server.now + seconds, 0
    while server.now < end:
        pace.wait()
        if server.takes():
            took += 1
            pace.took()
        else:
            pace.too_fast()
    return took


@pytest.mark.parametrize("limit, window", [(20, 1), (14, 1), (200, 1), (100, 60), (5, 1)])
def test_it_finds_the_speed_of_a_server_and_stays_near_it(limit: int, window: float) -> None:
    server = Server(limit, window)
    pace = Pace(lambda: server.now, server.sleep)
    send(server, pace, 120)
    server.refused = 0
    took = send(server, pace, 600)
    most = limit / window * 600
    assert 0.6 * most <= took <= most + limit
    assert server.refused <= 0.06 * took, "It asks for too much again and again."


def test_without_it_most_questions_are_refused() -> None:
    """The twin: a sender that only goes on, at a thousand a second."""
    server = Server(20, 1)
    pace = Pace(lambda: server.now, server.sleep)
    took = 0
    while server.now < 1_060:
        took += server.takes()
    assert server.refused > 40 * took
    assert pace.rate is None


def test_it_is_as_fast_as_before_when_the_server_has_got_faster() -> None:
    server = Server(20, 1)
    pace = Pace(lambda: server.now, server.sleep)
    send(server, pace, 60)
    assert pace.rate is not None
    server.limit = 10**6
    send(server, pace, 300)
    assert pace.rate is None


def test_two_senders_share_what_there_is() -> None:
    server = Server(20, 1)
    pair = [Pace(lambda: server.now, lambda _seconds: None) for _ in range(2)]
    pair[1].rate = 1.0
    next_at, took = [server.now, server.now], Counter()
    while server.now < 1_900:
        for number, pace in enumerate(pair):
            if next_at[number] > server.now:
                continue
            if server.takes():
                took[number] += 1
                pace.took()
            else:
                pace.too_fast()
            next_at[number] = server.now + max(pace.pause, 1 / pace.rate if pace.rate else 0)
        server.now += 0.002
    assert sum(took.values()) >= 0.6 * 20 * 900
    assert 0.5 <= took[0] / took[1] <= 2


@pytest.mark.parametrize(
    "said, is_too_fast",
    [
        ("454 Throttling failure: Maximum sending rate exceeded.", True),
        ("421 4.7.28 Gmail has detected an unusual rate of mail", True),
        ("450 4.7.1 Error: too much mail from 192.0.2.1", True),
        ("421 RP-001 The mail server IP has exceeded the rate limit allowed", True),
        ("451 4.7.652 has exceeded the maximum number of connections", True),
        ("452 4.2.2 The email account that you tried to reach is over quota", False),
        ("452 4.2.2 Mailbox quota exceeded", False),
        ("451 4.7.1 Greylisting in action, please come back later", False),
        ("450 4.2.1 Mailbox temporarily unavailable", False),
    ],
)
def test_it_tells_too_fast_from_what_is_about_one_mailbox(said: str, is_too_fast: bool) -> None:
    code, _, text = said.partition(" ")
    assert email.Refused(int(code), text, at_recipient=True).is_too_fast is is_too_fast
    assert email.Dropped(said).is_too_fast is is_too_fast


@pytest.mark.django_db(transaction=True)
def test_it_slows_down_for_a_server_with_a_limit_and_delivers_to_everybody(smtp, monkeypatch) -> None:
    """Nobody is dropped, nobody's tries are used up, and nothing is called finished while somebody waits."""
    monkeypatch.setattr(carriers.CARRIERS[-1], "pace", Pace())
    server = Server(40, 1)
    asked = Counter()

    def limited(_address: str) -> str | None:
        server.now = time.monotonic()
        asked[took := server.takes()] += 1
        return None if took else "454 4.7.0 Throttling failure: Maximum sending rate exceeded."

    smtp.on_recipient = limited
    run = planned(people(100), CampaignFactory(quiet_from=0, quiet_until=0))
    until = time.monotonic() + 60
    while Message.objects.filter(run=run, state__in=Message.OPEN).exists():
        assert time.monotonic() < until
        run.refresh_from_db()
        assert run.state == "sending"
        if not outbox.send_due():
            time.sleep(0.1)
    run.refresh_from_db()
    assert run.state == "finished"
    assert set(Message.objects.filter(run=run).values_list("state", "tries")) == {("sent", 0)}
    assert Counter(one.recipients[0] for one in smtp.messages).most_common(1)[0][1] == 1
    assert len(smtp.messages) == asked[True] == 100
    assert 1 <= asked[False] <= 12
