"""Service messages that follow from what a customer pressed on a lower floor, which may not know that there are messages.

The first one makes the template (in every language) and the campaign it goes out with. From then on both are the shop's:
its words can be changed under Templates, and who pauses the campaign stops the messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import translation
from django.utils.translation import gettext as _

from campaigns import planning, texts
from campaigns.models import Campaign, Purpose, Template
from lifecycle_crm.lib import clock
from loyalty import codemails

CODE = "reward-code"


def mail_codes(ids: Sequence[int]) -> None:
    """A message for each press. A run is named after its press, and a run has one message for a customer."""
    wanted = codemails.told(ids)
    if not wanted:
        return
    campaign = _campaign()
    for one in wanted:
        planning.plan(
            campaign=campaign,
            run_key=f"code:{one.mail}",
            audience=[one.customer],
            as_of=clock.now(),
            contexts={one.customer: {"reward": {"name": one.reward, "code": one.code, "last_day": one.last_day}}},
        )


def _campaign() -> Campaign:
    found = Campaign.objects.filter(key=CODE).first()
    if found is not None:
        return found
    with transaction.atomic():
        template = Template.objects.filter(key=CODE).first()
        if template is None:
            template = texts.create(name=str(_("Code of a reward")), purpose=Purpose.SERVICE, key=CODE)
            for language, _name in settings.LANGUAGES:
                with translation.override(language):
                    subject, blocks = _words()
                texts.write(template=template, language=language, subject=subject, blocks=blocks)
        return Campaign.objects.get_or_create(
            key=CODE,
            defaults={
                "name": template.name, "purpose": Purpose.SERVICE, "template": template, "holdout_percent": 0,
                "state": Campaign.State.ACTIVE,
            },
        )[0]  # fmt: skip


def _words() -> tuple[str, list[dict[str, Any]]]:
    """Subject and blocks in the active language."""
    until = _("You can use it until %(day)s.") % {"day": "{{ reward.last_day }}"}
    return _("Your code for %(reward)s") % {"reward": "{{ reward.name }}"}, [
        {"type": "heading", "text": "{{ reward.name }}"},
        {"type": "text", "text": _("You asked us to mail you this code. Show it when you want to use it:")},
        {"type": "heading", "text": "{{ reward.code }}"},
        {"type": "text", "text": "{% if reward.last_day != '' %}" + until + " {% endif %}"
         + _("It is also in your wallet. If it was not you who asked, you need not do anything.")},
    ]  # fmt: skip
