"""Playbooks: a journey for a stage with all its words, installed as a draft that a person adjusts and publishes."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass

from django.db import transaction
from django.utils.translation import gettext as _

from campaigns import texts
from campaigns.journeys import publishing, reading, starts
from campaigns.journeys.starts import Start
from campaigns.models import Journey, Template
from campaigns.playbooks.words import WORDS
from customers import segments
from customers.models import Segment
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import keys
from lifecycle_crm.lib.errors import Conflict, NotFound
from loyalty.models import Tier

MADE = "playbook-"
"""How the keys of what playbooks made begin."""
_NUMBER = re.compile(r"-\d+$")


class Installed(Conflict):
    """It was installed before."""

    code = "installed"


@dataclass(frozen=True, slots=True)
class Line:
    """A playbook with the journey that was made of it, if one was and has not ended."""

    start: Start
    journey: Journey | None


def listed() -> list[Line]:
    """Every playbook, in the order of the stages."""
    made = _made()
    return [Line(start, made.get(start.key)) for start in starts.STARTS]


def _made() -> dict[str, Journey]:
    """The journeys that were made of playbooks and go on, by the playbook's key."""
    rows = Journey.objects.filter(key__startswith=MADE).exclude(state=Journey.State.ENDED).order_by("-pk")
    known = {start.key for start in starts.STARTS}
    return {key: one for one in rows if (key := _NUMBER.sub("", one.key.removeprefix(MADE))) in known}


def install(*, key: str, actor: User | None = None) -> Journey:
    """The journey of a playbook as a draft that can be published as it is, with its texts in every language and, where it
    needs one, its segment. Texts and segments that are there already stay as they are: they are the shop's.

    Raises ``NotFound``, and ``Installed`` when its journey is there.
    """
    start = starts.start(key)
    if start is None:
        raise NotFound(_("There is no playbook “%(key)s”. Choose one of the list.") % {"key": key})
    if found := _made().get(key):
        raise Installed(_("This playbook is the journey “%(name)s” already.") % {"name": found.name}, journey=found.pk)
    tree = copy.deepcopy({"trigger": start.trigger, "steps": start.steps})
    for step in reading.steps_of(tree):
        if step["do"] == "points":
            step["reason"] = _(step["reason"])
    if tree["trigger"] == {"on": "tier"} and (highest := Tier.objects.order_by("-threshold").first()):
        tree["trigger"]["tier"] = highest.key
    with transaction.atomic():
        for step in reading.steps_of(tree):
            if step["do"] == "message":
                _write(step["template"], actor)
        if start.segment and not Segment.objects.filter(key=start.trigger["segment"]).exists():
            segments.create(
                name=str(start.name), key=start.trigger["segment"], condition=start.segment, note=str(start.text),
                actor=actor,
            )  # fmt: skip
        # With a number when an earlier journey of this playbook has ended.
        free = keys.free(Journey.objects.all(), f"{MADE}{key}", "")
        return publishing.create(
            name=str(start.name), key=free, tree=tree, actor=actor, **copy.deepcopy(start.settings)
        )


def _write(key: str, actor: User | None) -> None:
    if Template.objects.filter(key=key).exists():
        return
    name, purpose, words = WORDS[key]
    template = texts.create(name=str(name), purpose=purpose, key=key)
    for language, (subject, blocks) in words.items():
        texts.write(template=template, language=language, subject=subject, blocks=blocks, actor=actor)
