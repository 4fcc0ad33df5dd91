"""What a person fills in about a journey and its trigger; each gives the tree's own words for it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from campaigns.journeys import reading
from campaigns.models import Journey
from customers.models import Segment
from loyalty.models import Tier
from stages.models import StageKey

KINDS: tuple[tuple[str, Any], ...] = (
    ("message", gettext_lazy("Send a message")),
    ("wait", gettext_lazy("Wait")),
    ("until", gettext_lazy("Wait until something happens")),
    ("split", gettext_lazy("Split by condition")),
    ("share", gettext_lazy("Split by chance")),
    ("points", gettext_lazy("Give points")),
    ("voucher", gettext_lazy("Give a voucher")),
    ("tag", gettext_lazy("Put on or take off a tag")),
    ("task", gettext_lazy("Give a task to somebody of the team")),
    ("task_done", gettext_lazy("Wait until a task is done")),
    ("webhook", gettext_lazy("Tell another system")),
    ("exit", gettext_lazy("End here")),
)
TRIGGERS: tuple[tuple[str, Any], ...] = (
    ("", gettext_lazy("Choose…")),
    ("stage_entered", gettext_lazy("Enters a stage")),
    ("stage_left", gettext_lazy("Leaves a stage")),
    ("segment_entered", gettext_lazy("Enters a segment")),
    ("segment_left", gettext_lazy("Leaves a segment")),
    ("first_order", gettext_lazy("Places the first order")),
    ("order", gettext_lazy("Places an order")),
    ("event", gettext_lazy("Does something")),
    ("answer", gettext_lazy("Answers a survey")),
    ("tier", gettext_lazy("Reaches a tier")),
    ("points_expiring", gettext_lazy("Has points that expire soon")),
    ("birthday", gettext_lazy("Has a birthday")),
    ("cart_abandoned", gettext_lazy("Leaves a cart behind")),
    ("delivery_delayed", gettext_lazy("Waits for a delivery that is late")),
)
EXITS: tuple[tuple[str, Any, dict[str, Any]], ...] = (
    ("unsubscribes", gettext_lazy("Does not agree to offers"), {"fact": "may_email", "op": "eq", "value": False}),
    ("complains", gettext_lazy("Has an open case"), {"fact": "open_cases", "op": "gte", "value": 1}),
)


def segment_choices() -> list[tuple[str, str]]:
    rows = Segment.objects.filter(archived_at=None).order_by("name").values_list("key", "name")
    return [("", "–"), *rows]


def _tiers() -> list[tuple[str, str]]:
    """The shop's tiers from the lowest; of which programme when there are several."""
    rows = list(Tier.objects.select_related("programme"))
    several = len({tier.programme_id for tier in rows}) > 1
    names = {tier.key: f"{tier.name} ({tier.programme.name})" if several else tier.name for tier in rows}
    return [("", "–"), *names.items()]


def whole(label: Any, low: int, high: int, **more: Any) -> forms.IntegerField:
    return forms.IntegerField(label=label, min_value=low, max_value=high, **more)


class NameForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=120, help_text=gettext_lazy("Only your team sees it.")
    )


class TriggerForm(forms.Form):
    on = forms.ChoiceField(label=gettext_lazy("People enter when somebody"), choices=TRIGGERS)
    stage = forms.ChoiceField(label=gettext_lazy("Stage"), choices=[("", "–"), *StageKey.choices], required=False)
    segment = forms.ChoiceField(label=gettext_lazy("Segment"), choices=segment_choices, required=False)
    event = forms.CharField(
        label=gettext_lazy("What they do"), max_length=80, required=False, help_text=gettext_lazy("Name of the event.")
    )
    at_least = whole(gettext_lazy("Score at least"), 0, 10, required=False)
    at_most = whole(gettext_lazy("Score at most"), 0, 10, required=False)
    tier = forms.ChoiceField(label=gettext_lazy("Tier"), choices=_tiers, required=False)
    days = whole(gettext_lazy("Days before"), 0, 90, required=False)
    hours = whole(
        gettext_lazy("Hours without an order"), 1, 24, required=False,
        help_text=gettext_lazy("For a cart that is left behind; they count from its last change."),
    )  # fmt: skip

    def tree(self) -> dict[str, Any]:
        """The trigger as stored."""
        on = self.cleaned_data["on"]
        words = ("at_least", "at_most") if on == "answer" else tuple(filter(None, [reading.TRIGGERS.get(on, "")]))
        given = {word: self.cleaned_data[word] for word in words}
        return {"on": on, **{word: value for word, value in given.items() if value not in (None, "")}}


class SettingsForm(forms.Form):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=120)
    again = forms.ChoiceField(
        label=gettext_lazy("A person may enter"), choices=Journey.Again.choices, widget=forms.RadioSelect
    )
    again_days = whole(gettext_lazy("Days before entering again"), 1, 3650)
    holdout_percent = whole(
        gettext_lazy("Holdout, per cent"), 0, 90,
        help_text=gettext_lazy("So many get nothing on purpose. Comparing the two groups shows what it really caused."),
    )  # fmt: skip
    goal = forms.ChoiceField(
        label=gettext_lazy("Goal"),
        choices=[
            ("", gettext_lazy("None")),
            ("order", gettext_lazy("Places an order")),
            ("event", gettext_lazy("Does something")),
        ],
        required=False,
        help_text=gettext_lazy("Who reaches it leaves the journey."),
    )
    goal_event = forms.CharField(label=gettext_lazy("What they do"), max_length=80, required=False)
    goal_days = whole(gettext_lazy("Days for the goal"), 1, 365)
    exits = forms.MultipleChoiceField(
        label=gettext_lazy("Leaves early when somebody"),
        choices=[(key, label) for key, label, _tree in EXITS],
        widget=forms.CheckboxSelectMultiple,
        required=False,
        help_text=gettext_lazy("Asked before each step."),
    )
    leaves_stage = forms.ChoiceField(
        label=gettext_lazy("Leaves early when not in the stage"), choices=[("", "–"), *StageKey.choices], required=False
    )

    @classmethod
    def of(cls, journey: Journey) -> SettingsForm:
        return cls(
            initial={
                "name": journey.name,
                "again": journey.again,
                "again_days": journey.again_days,
                "holdout_percent": journey.holdout_percent,
                "goal": next(iter(journey.goal), ""),
                "goal_event": journey.goal.get("event", ""),
                "goal_days": journey.goal_days,
                "exits": [key for key, _label, tree in EXITS if tree in journey.exits],
                "leaves_stage": next((_stage_of(tree) for tree in journey.exits if _stage_of(tree)), ""),
            }
        )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("goal") == "event" and not values.get("goal_event"):
            self.add_error("goal_event", _("Name the event that is the goal."))
        return values

    def values(self, journey: Journey) -> dict[str, Any]:
        """For ``publishing.set_up``; rules that this form has no words for stay."""
        given = self.cleaned_data
        ours = [tree for _key, _label, tree in EXITS]
        exits = [tree for tree in journey.exits if tree not in ours and not _stage_of(tree)]
        exits += [tree for key, _label, tree in EXITS if key in given["exits"]]
        if given["leaves_stage"]:
            exits.append({"fact": "stage", "op": "ne", "value": given["leaves_stage"]})
        goal = {"order": {"order": True}, "event": {"event": given["goal_event"]}}.get(given["goal"], {})
        return {
            **{name: given[name] for name in ("name", "again", "again_days", "holdout_percent", "goal_days")},
            "goal": goal,
            "exits": exits,
        }


def _stage_of(tree: Any) -> str:
    is_stage = isinstance(tree, dict) and tree.get("fact") == "stage" and tree.get("op") == "ne"
    return str(tree["value"]) if is_stage else ""
