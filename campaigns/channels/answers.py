"""What may become of a message on its way out, whatever the channel. Each says whether it may be tried again."""

from __future__ import annotations


class Unreachable(Exception):
    """No conversation at all: host, password, sender or money. It says nothing about the message, so everything waits."""


class Dropped(Exception):
    """The connection ended before the message was complete. It was not accepted."""

    @property
    def is_too_fast(self) -> bool:
        """The server hung up because we send faster than it likes."""
        return False


class InDoubt(Exception):
    """The message was complete and the answer never came, or does not say. It may have been accepted."""


class Refused(Exception):
    """The server said no. ``is_permanent`` when it will say so again; ``is_hard`` when the address itself is the reason;
    ``is_too_fast`` when it says nothing about the message, only that we send faster than the server likes, who may have
    asked for a rest of ``wait`` seconds."""

    is_hard = False
    wait: float | None = None

    def __init__(self, code: int, text: str, *, is_permanent: bool, is_too_fast: bool = False) -> None:
        super().__init__(f"{code} {text}")
        self.code, self.text, self.is_permanent, self.is_too_fast = code, text, is_permanent, is_too_fast


class BadAddress(ValueError):
    """The address cannot stand on an envelope."""
