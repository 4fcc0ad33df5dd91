"""What a shop does in each stage: the activities we ship, unless the shop wrote its own into ``Stage.playbook``."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from lifecycle_crm.templatetags.crm import stage_goal
from stages.models import Stage

ACTIVITIES: dict[str, tuple[str, ...]] = {
    "reach": (
        gettext_noop("Say in one sentence what the shop is for and whom it helps."),
        gettext_noop("Ask for the e-mail address with consent, and give something useful in return."),
        gettext_noop("Note where each person came from, so that the cost of a new buyer is known."),
    ),
    "acquire": (
        gettext_noop("Welcome people on the day they sign up, with what buyers like most."),
        gettext_noop("Remind them of a cart they left, once and kindly."),
        gettext_noop("Take the risk out of the first order: returns, delivery and help in plain words."),
    ),
    "nurture": (
        gettext_noop("Check in after the delivery without selling anything."),
        gettext_noop("Show what goes well with the first order."),
        gettext_noop("Ask how it went, and mend what did not."),
        gettext_noop("Explain points and what they are worth before they are needed."),
    ),
    "retain": (
        gettext_noop("Write when the next order is due by their own rhythm, not by yours."),
        gettext_noop("Let points and tiers be seen: balance, next reward, what expires."),
        gettext_noop("Answer complaints first, and hold offers back until they are solved."),
    ),
    "advocate": (
        gettext_noop("Thank them by name, and ask for a review or a recommendation."),
        gettext_noop("Reward both sides of a recommendation after the first order."),
        gettext_noop("Ask them first about new products, and tell them what came of it."),
    ),
    "dormant": (
        gettext_noop("Ask why they left with one question."),
        gettext_noop(
            "Send one offer that fits what they used to buy, and keep a group without it to see what it does."
        ),
        gettext_noop("After a last message, let them go: silence is kinder than a tenth reminder."),
    ),
}


def goal(key: str, stage: Stage | None) -> str:
    """What the shop wants in this stage: its own words, else ours in the active language."""
    return (stage.goal if stage else "") or stage_goal(key)


def activities(key: str, stage: Stage | None) -> list[str]:
    """What to do in this stage, in order: the shop's own list, else ours in the active language."""
    own = stage.playbook if stage else []
    return [str(line) for line in own] if own else [_(line) for line in ACTIVITIES[key]]
