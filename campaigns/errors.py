"""What this app refuses, each with the sentence a person reads."""

from __future__ import annotations

from lifecycle_crm.lib.errors import Conflict, InvalidInput


class BrokenTemplate(InvalidInput):
    """The text cannot be made into a message: a mistake in its Liquid, an unknown value, or a limit reached."""

    code = "broken_template"


class NotNow(Conflict):
    """The run or campaign is in a state in which this cannot be done."""

    code = "wrong_state"
