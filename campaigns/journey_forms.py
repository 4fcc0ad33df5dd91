"""What a person fills in about a journey, its trigger and its steps; each gives the tree's own words for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from babel.dates import get_day_names
from django import forms
from django.db.models import Q
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _

from campaigns import hooks, texts
from campaigns.journeys import reading
from campaigns.models import Journey, StaffTask, WebhookTarget
from campaigns.task_forms import choices_of_people
from customers.models import Segment
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import DomainError
from loyalty.models import Tier, VoucherSeries
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


def _segments() -> list[tuple[str, str]]:
    rows = Segment.objects.filter(archived_at=None).order_by("name").values_list("key", "name")
    return [("", "–"), *rows]


def _tiers() -> list[tuple[str, str]]:
    """The shop's tiers from the lowest; of which programme when there are several."""
    rows = list(Tier.objects.select_related("programme"))
    several = len({tier.programme_id for tier in rows}) > 1
    names = {tier.key: f"{tier.name} ({tier.programme.name})" if several else tier.name for tier in rows}
    return [("", "–"), *names.items()]


def _whole(label: Any, low: int, high: int, **more: Any) -> forms.IntegerField:
    return forms.IntegerField(label=label, min_value=low, max_value=high, **more)


class NameForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=120, help_text=gettext_lazy("Only your team sees it.")
    )


class TriggerForm(forms.Form):
    on = forms.ChoiceField(label=gettext_lazy("People enter when somebody"), choices=TRIGGERS)
    stage = forms.ChoiceField(label=gettext_lazy("Stage"), choices=[("", "–"), *StageKey.choices], required=False)
    segment = forms.ChoiceField(label=gettext_lazy("Segment"), choices=_segments, required=False)
    event = forms.CharField(
        label=gettext_lazy("What they do"), max_length=80, required=False, help_text=gettext_lazy("Name of the event.")
    )
    at_least = _whole(gettext_lazy("Score at least"), 0, 10, required=False)
    at_most = _whole(gettext_lazy("Score at most"), 0, 10, required=False)
    tier = forms.ChoiceField(label=gettext_lazy("Tier"), choices=_tiers, required=False)
    days = _whole(gettext_lazy("Days before"), 0, 90, required=False)
    hours = _whole(
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
    again_days = _whole(gettext_lazy("Days before entering again"), 1, 3650)
    holdout_percent = _whole(
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
    goal_days = _whole(gettext_lazy("Days for the goal"), 1, 365)
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


# --- Steps ----------------------------------------------------------------------------------------------------------------


class StepForm(forms.Form):
    """Base: ``of`` takes the stored step, ``values`` gives what to store. ``tree`` is the draft around it."""

    def __init__(self, step: Mapping[str, Any], *args: Any, tree: Any = None, **kwargs: Any) -> None:
        self.step, self.tree = step, tree
        super().__init__(*args, **kwargs)

    @classmethod
    def initial_of(cls, step: Mapping[str, Any]) -> dict[str, Any]:
        return dict(step)

    def values(self) -> dict[str, Any]:
        return {}


class MessageStep(StepForm):
    template = forms.ChoiceField(label=gettext_lazy("Text"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rows = texts.choosable().order_by("name").values_list("key", "name")
        self.fields["template"].choices = [("", _("Choose…")), *rows]  # type: ignore[attr-defined]

    def values(self) -> dict[str, Any]:
        return {"template": self.cleaned_data["template"]}


class WaitStep(StepForm):
    days = _whole(gettext_lazy("Days"), 0, 365, required=False)
    hours = _whole(gettext_lazy("Hours"), 0, 8760, required=False)
    opens = _whole(gettext_lazy("Then not before, o’clock where they live"), 0, 23, required=False)
    closes = _whole(gettext_lazy("and not after"), 1, 24, required=False)
    weekdays = forms.MultipleChoiceField(
        label=gettext_lazy("On these days"), required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = get_day_names("wide", locale=get_language() or "en")
        self.fields["weekdays"].choices = [(str(n), names[n].capitalize()) for n in range(7)]  # type: ignore[attr-defined]

    @classmethod
    def initial_of(cls, step: Mapping[str, Any]) -> dict[str, Any]:
        window = step.get("window") or {}
        days = window.get("weekdays", range(7))
        return {
            "days": step.get("days"), "hours": step.get("hours"), "opens": window.get("from"),
            "closes": window.get("until"), "weekdays": [str(day) for day in days] if window else [],
        }  # fmt: skip

    def values(self) -> dict[str, Any]:
        given = self.cleaned_data
        answer: dict[str, Any] = {name: given[name] for name in ("days", "hours") if given[name]}
        if given["opens"] is not None or given["closes"] is not None or given["weekdays"]:
            answer["window"] = {
                "from": given["opens"] or 0,
                "until": given["closes"] or 24,
                "weekdays": sorted(int(day) for day in given["weekdays"]) or list(range(7)),
            }
        return answer


class UntilStep(StepForm):
    what = forms.ChoiceField(
        label=gettext_lazy("Until somebody"),
        choices=[
            ("order", gettext_lazy("Places an order")),
            ("event", gettext_lazy("Does something")),
            ("segment", gettext_lazy("Is in a segment")),
            ("kept", gettext_lazy("Meets the condition that is set")),
        ],
    )
    event = forms.CharField(
        label=gettext_lazy("What they do"), max_length=80, required=False, help_text=gettext_lazy("Name of the event.")
    )
    segment = forms.ChoiceField(label=gettext_lazy("Segment"), choices=_segments, required=False)
    days = _whole(gettext_lazy("At most so many days"), 0, 365, required=False)
    hours = _whole(gettext_lazy("and so many hours"), 0, 8760, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not _is_own(self.step.get("when")):
            field: Any = self.fields["what"]
            field.choices = [one for one in field.choices if one[0] != "kept"]

    @classmethod
    def initial_of(cls, step: Mapping[str, Any]) -> dict[str, Any]:
        when, most = step.get("when"), step.get("at_most", {})
        what = "event" if "event" in step else "order" if when is None else "kept" if _is_own(when) else "segment"
        return {
            "what": what, "event": step.get("event", ""), "segment": when.get("segment", "") if isinstance(when, dict) else "",
            **{name: most[name] for name in ("days", "hours") if most.get(name)},
        }  # fmt: skip

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("what") == "event" and not values.get("event"):
            self.add_error("event", _("Name the event this wait is for."))
        if values.get("what") == "segment" and not values.get("segment"):
            self.add_error("segment", _("Choose a segment."))
        if not (values.get("days") or values.get("hours") or self.errors):
            self.add_error("days", _("This wait has no end. Say after how many days people go on anyway."))
        return values

    def values(self) -> dict[str, Any]:
        given = self.cleaned_data
        head: dict[str, Any] = {
            "order": {"order": True},
            "event": {"event": given["event"]},
            "segment": {"when": {"segment": given["segment"]}},
            "kept": {"when": self.step.get("when")},
        }[given["what"]]
        return {**head, "at_most": {name: given[name] for name in ("days", "hours") if given[name]}}


def _is_own(when: Any) -> bool:
    """A condition that is neither nothing nor just a segment."""
    return isinstance(when, dict) and set(when) != {"segment"}


class PointsStep(StepForm):
    points = _whole(gettext_lazy("Points"), 1, 1_000_000)
    reason = forms.CharField(
        label=gettext_lazy("Reason"), max_length=120, help_text=gettext_lazy("The customer reads it.")
    )

    def values(self) -> dict[str, Any]:
        return {"points": self.cleaned_data["points"], "reason": self.cleaned_data["reason"]}


class VoucherStep(StepForm):
    series = forms.TypedChoiceField(
        label=gettext_lazy("Vouchers"), coerce=int, help_text=gettext_lazy("The customer finds it on their own page.")
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rows = VoucherSeries.objects.filter(Q(ends_on=None) | Q(ends_on__gte=clock.today())).order_by("name")
        self.fields["series"].choices = [("", _("Choose…")), *rows.values_list("pk", "name")]  # type: ignore[attr-defined]

    def values(self) -> dict[str, Any]:
        return {"series": self.cleaned_data["series"]}


class TagStep(StepForm):
    remove = forms.ChoiceField(
        label=gettext_lazy("What to do"),
        choices=[("", gettext_lazy("Put it on")), ("1", gettext_lazy("Take it off"))],
        required=False,
    )
    tag = forms.CharField(label=gettext_lazy("Tag"), max_length=100)

    @classmethod
    def initial_of(cls, step: Mapping[str, Any]) -> dict[str, Any]:
        return {"tag": step.get("tag", ""), "remove": "1" if step.get("remove") else ""}

    def values(self) -> dict[str, Any]:
        return {"tag": self.cleaned_data["tag"], **({"remove": True} if self.cleaned_data["remove"] else {})}


class TaskStep(StepForm):
    kind = forms.ChoiceField(label=gettext_lazy("Kind"), choices=StaffTask.Kind.choices)
    what = forms.CharField(
        label=gettext_lazy("What to do"),
        max_length=200,
        help_text=gettext_lazy("Only your team reads it. Name, phone and e-mail of the customer stand beside it."),
    )
    days = _whole(gettext_lazy("Days to do it"), 0, reading.TASK_DAYS, help_text=gettext_lazy("0: on the same day."))
    whom = forms.ChoiceField(label=gettext_lazy("For"), choices=choices_of_people, required=False)

    @classmethod
    def initial_of(cls, step: Mapping[str, Any]) -> dict[str, Any]:
        whom = f"person:{step['person']}" if step.get("person") else f"role:{step['role']}" if step.get("role") else ""
        return {**{name: step.get(name) for name in ("kind", "what", "days")}, "whom": whom}

    def values(self) -> dict[str, Any]:
        given = self.cleaned_data
        word, _sep, of = given["whom"].partition(":")
        return {**{name: given[name] for name in ("kind", "what", "days")}, **({word: of} if of else {})}


class TaskDoneStep(StepForm):
    task = forms.ChoiceField(label=gettext_lazy("Which task"))
    days = _whole(gettext_lazy("At most so many days"), 0, 365, required=False)
    hours = _whole(gettext_lazy("and so many hours"), 0, 8760, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        steps = [one for one in reading.steps_of(self.tree or {}) if one.get("do") == "task"]
        self.fields["task"].choices = [(one.get("id", ""), one.get("what") or "…") for one in steps]  # type: ignore[attr-defined]

    @classmethod
    def initial_of(cls, step: Mapping[str, Any]) -> dict[str, Any]:
        most = step.get("at_most", {})
        return {"task": step.get("task", ""), **{name: most[name] for name in ("days", "hours") if most.get(name)}}

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if not (values.get("days") or values.get("hours") or self.errors):
            self.add_error("days", _("This wait has no end. Say after how many days people go on anyway."))
        return values

    def values(self) -> dict[str, Any]:
        given = self.cleaned_data
        return {"task": given["task"], "at_most": {name: given[name] for name in ("days", "hours") if given[name]}}


class WebhookStep(StepForm):
    target = forms.ChoiceField(label=gettext_lazy("Webhook"))
    fields_told = forms.MultipleChoiceField(
        label=gettext_lazy("What it is told"),
        choices=list(hooks.FIELDS.items()),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy(
            "The numbers of the customer and the journey are always told, and nothing else without a tick."
        ),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rows = WebhookTarget.objects.order_by("name").values_list("key", "name")
        self.fields["target"].choices = [("", _("Choose…")), *rows]  # type: ignore[attr-defined]

    @classmethod
    def initial_of(cls, step: Mapping[str, Any]) -> dict[str, Any]:
        return {"target": step.get("target", ""), "fields_told": step.get("fields", [])}

    def values(self) -> dict[str, Any]:
        told = self.cleaned_data["fields_told"]
        return {"target": self.cleaned_data["target"], **({"fields": told} if told else {})}


class SplitStep(StepForm):
    """For each branch a segment, or a condition as JSON."""

    def __init__(self, step: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(step, *args, **kwargs)
        choices = _segments()
        for number, branch in enumerate(step.get("branches", [])):
            when = branch.get("when") or {}
            name = {"n": number + 1}
            self.fields[f"name-{number}"] = forms.CharField(
                label=_("Branch %(n)d: name") % name, max_length=60, required=False, initial=branch.get("name", "")
            )
            self.fields[f"segment-{number}"] = forms.ChoiceField(
                label=_("Branch %(n)d: people in the segment") % name, choices=choices, required=False,
                initial="" if _is_own(when) else when.get("segment", ""),
            )  # fmt: skip
            self.fields[f"when-{number}"] = forms.CharField(
                label=_("Branch %(n)d: or a condition, as JSON") % name, required=False,
                widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "class": "mono"}),
                initial=json.dumps(when, ensure_ascii=False) if _is_own(when) and when != {"all": []} else "",
            )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        for number in range(len(self.step.get("branches", []))):
            text = values.get(f"when-{number}", "")
            if not text and not values.get(f"segment-{number}"):
                self.add_error(f"segment-{number}", _("Choose a segment, or write a condition."))
            if not text:
                continue
            try:
                values[f"when-{number}"] = json.loads(text)
                reading.exits_of([values[f"when-{number}"]])
            except ValueError:
                self.add_error(f"when-{number}", _("This is no JSON."))
            except DomainError as problem:
                self.add_error(f"when-{number}", problem.message)
        return values

    def values(self) -> dict[str, Any]:
        given = self.cleaned_data
        branches = []
        for number, branch in enumerate(self.step.get("branches", [])):
            when = given[f"when-{number}"] or {"segment": given[f"segment-{number}"]}
            named = {"name": given[f"name-{number}"]} if given[f"name-{number}"] else {}
            branches.append({"when": when, "steps": branch.get("steps", []), **named})
        return {"branches": branches}


class ShareStep(StepForm):
    def __init__(self, step: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(step, *args, **kwargs)
        for number, branch in enumerate(step.get("branches", [])):
            self.fields[f"percent-{number}"] = _whole(
                _("Branch %(n)d: per cent of the people") % {"n": number + 1}, 1, 100, initial=branch.get("percent")
            )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        total = sum(value or 0 for value in values.values())
        if total > 100:
            self.add_error(None, _("The branches add up to %(n)d per cent. Make it at most 100.") % {"n": total})
        return values

    def values(self) -> dict[str, Any]:
        branches = self.step.get("branches", [])
        given = self.cleaned_data
        return {"branches": [{**branch, "percent": given[f"percent-{n}"]} for n, branch in enumerate(branches)]}


STEPS: dict[str, type[StepForm]] = {
    "message": MessageStep,
    "wait": WaitStep,
    "until": UntilStep,
    "split": SplitStep,
    "share": ShareStep,
    "points": PointsStep,
    "voucher": VoucherStep,
    "tag": TagStep,
    "task": TaskStep,
    "task_done": TaskDoneStep,
    "webhook": WebhookStep,
}
