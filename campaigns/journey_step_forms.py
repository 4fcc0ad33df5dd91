"""What a person fills in about a step of a journey; each gives the tree's own words for it."""

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
from campaigns.journey_forms import segment_choices, whole
from campaigns.journeys import reading
from campaigns.models import StaffTask, WebhookTarget
from campaigns.task_forms import choices_of_people
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import DomainError
from loyalty.models import VoucherSeries


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
        rows = [(one.key, texts.label(one)) for one in texts.choosable().order_by("name")]
        self.fields["template"].choices = [("", _("Choose…")), *rows]  # type: ignore[attr-defined]

    def values(self) -> dict[str, Any]:
        return {"template": self.cleaned_data["template"]}


class WaitStep(StepForm):
    days = whole(gettext_lazy("Days"), 0, 365, required=False)
    hours = whole(gettext_lazy("Hours"), 0, 8760, required=False)
    opens = whole(gettext_lazy("Then not before, o’clock where they live"), 0, 23, required=False)
    closes = whole(gettext_lazy("and not after"), 1, 24, required=False)
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


class AtMostStep(StepForm):
    """Base of waits that end by themselves."""

    days = whole(gettext_lazy("At most so many days"), 0, 365, required=False)
    hours = whole(gettext_lazy("and so many hours"), 0, 8760, required=False)

    @classmethod
    def initial_of(cls, step: Mapping[str, Any]) -> dict[str, Any]:
        most = step.get("at_most", {})
        return {name: most[name] for name in ("days", "hours") if most.get(name)}

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if not (values.get("days") or values.get("hours") or self.errors):
            self.add_error("days", _("This wait has no end. Say after how many days people go on anyway."))
        return values

    def values(self) -> dict[str, Any]:
        return {"at_most": {name: self.cleaned_data[name] for name in ("days", "hours") if self.cleaned_data[name]}}


class UntilStep(AtMostStep):
    field_order = ("what", "event", "segment", "days", "hours")
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
    segment = forms.ChoiceField(label=gettext_lazy("Segment"), choices=segment_choices, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not _is_own(self.step.get("when")):
            field: Any = self.fields["what"]
            field.choices = [one for one in field.choices if one[0] != "kept"]

    @classmethod
    def initial_of(cls, step: Mapping[str, Any]) -> dict[str, Any]:
        when = step.get("when")
        what = "event" if "event" in step else "order" if when is None else "kept" if _is_own(when) else "segment"
        return {
            "what": what, "event": step.get("event", ""), "segment": when.get("segment", "") if isinstance(when, dict) else "",
            **super().initial_of(step),
        }  # fmt: skip

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("what") == "event" and not values.get("event"):
            self.add_error("event", _("Name the event this wait is for."))
        if values.get("what") == "segment" and not values.get("segment"):
            self.add_error("segment", _("Choose a segment."))
        return values

    def values(self) -> dict[str, Any]:
        given = self.cleaned_data
        head: dict[str, Any] = {
            "order": {"order": True},
            "event": {"event": given["event"]},
            "segment": {"when": {"segment": given["segment"]}},
            "kept": {"when": self.step.get("when")},
        }[given["what"]]
        return {**head, **super().values()}


def _is_own(when: Any) -> bool:
    """A condition that is neither nothing nor just a segment."""
    return isinstance(when, dict) and set(when) != {"segment"}


class PointsStep(StepForm):
    points = whole(gettext_lazy("Points"), 1, 1_000_000)
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
    days = whole(gettext_lazy("Days to do it"), 0, reading.TASK_DAYS, help_text=gettext_lazy("0: on the same day."))
    whom = forms.ChoiceField(label=gettext_lazy("For"), choices=choices_of_people, required=False)

    @classmethod
    def initial_of(cls, step: Mapping[str, Any]) -> dict[str, Any]:
        whom = f"person:{step['person']}" if step.get("person") else f"role:{step['role']}" if step.get("role") else ""
        return {**{name: step.get(name) for name in ("kind", "what", "days")}, "whom": whom}

    def values(self) -> dict[str, Any]:
        given = self.cleaned_data
        word, _sep, of = given["whom"].partition(":")
        return {**{name: given[name] for name in ("kind", "what", "days")}, **({word: of} if of else {})}


class TaskDoneStep(AtMostStep):
    field_order = ("task", "days", "hours")
    task = forms.ChoiceField(label=gettext_lazy("Which task"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        steps = [one for one in reading.steps_of(self.tree or {}) if one.get("do") == "task"]
        self.fields["task"].choices = [(one.get("id", ""), one.get("what") or "…") for one in steps]  # type: ignore[attr-defined]

    @classmethod
    def initial_of(cls, step: Mapping[str, Any]) -> dict[str, Any]:
        return {**super().initial_of(step), "task": step.get("task", "")}

    def values(self) -> dict[str, Any]:
        return {**super().values(), "task": self.cleaned_data["task"]}


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
        choices = segment_choices()
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
            self.fields[f"percent-{number}"] = whole(
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
