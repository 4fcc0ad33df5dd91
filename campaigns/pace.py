"""How fast the mail server takes messages, learned from its answers.

Nobody tells the limit of a mail server (a provider's may begin at 14 a second), so it is looked for as TCP looks for its
own: a little faster with every second that goes well, much slower at once when the server asks for less ("additive
increase, multiplicative decrease": Chiu and Jain, Computer Networks and ISDN Systems 17, 1989). Each process learns for
itself, and those who share a limit come to share it fairly. A limit that the shop knows is a ``Throttle`` instead.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

WINDOW = 1.0
"""Seconds over which it is counted what the server took."""
LESS = 0.7
"""The share of its speed that is left after "too fast"."""
MORE = 0.02
"""How much faster a second that went well makes it, as a share; at least ``LEAST`` messages a second."""
LEAST = 0.05
MOST = 500.0
"""Messages a second above which there is nothing to wait for."""
LONGEST = 60.0
"""Seconds: the longest pause that we think of ourselves."""
LONGEST_WANTED = 3600.0
"""The longest that a server may ask for."""


class Pace:
    """As fast as nobody minds, until the server minds."""

    def __init__(self, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        self._now, self._sleep = now, sleep
        self._taken: deque[float] = deque()
        self._next = 0.0
        self.rate: float | None = None
        """Messages a second; ``None`` while nobody has asked for less."""
        self.pause = 0.0
        """Seconds that the server was left alone after it said no, twice as long each time it says no again."""

    @property
    def is_slow(self) -> bool:
        """So slow that a server should not be kept waiting inside a message."""
        return self.rate is not None and self.rate < 2

    def wait(self) -> None:
        """Sleep until the next message may leave."""
        if self.rate is None:
            return
        now = self._now()
        if self._next > now:
            self._sleep(self._next - now)
        self._next = max(self._next, now) + 1 / self.rate

    def took(self) -> None:
        """The server took a message."""
        now, last = self._now(), self._taken[-1] if self._taken else None
        self._taken.append(now)
        while self._taken[0] <= now - WINDOW:
            self._taken.popleft()
        self.pause = 0.0
        if self.rate is not None and last is not None:
            went_well = min(now - last, 60.0)
            self.rate += max(self.rate * MORE, LEAST) * went_well
            if self.rate > MOST:
                self.rate = None

    def too_fast(self, wanted: float | None = None) -> float:
        """The server asked for less, and perhaps for so many seconds of rest. How many seconds it is left alone now."""
        now = self._now()
        seen = sum(one > now - WINDOW for one in self._taken) / WINDOW
        # What it took in the last second is its limit, more or less. Where it says no again, that was too much as well.
        known = [speed for speed in (self.rate, seen if not self.pause else 0) if speed]
        self.rate = max(min(known, default=1.0) * (LESS if not self.pause else 0.5), 1 / LONGEST)
        self.pause = min(max(2 * self.pause, WINDOW), LONGEST)
        if wanted is not None:
            self.pause = max(self.pause, min(wanted, LONGEST_WANTED))
        self._next = now + self.pause
        return self.pause

    def worth(self, seconds: float) -> int:
        """How many messages it is worth having at hand for so many seconds."""
        return 10**6 if self.rate is None else max(1, math.ceil(self.rate * seconds))
