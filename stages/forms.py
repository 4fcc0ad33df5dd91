from __future__ import annotations

import json
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from lifecycle_crm.lib.errors import DomainError
from lifecycle_crm.templatetags.crm import num
from stages import rules as rulebook
from stages import thresholds
from stages.models import RuleSet
from stages.thresholds import Threshold


class RulesForm(forms.Form):
    """A draft's name, note and rules. What is wrong with the rules is said in one sentence, where and how to mend it."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=80)
    note = forms.CharField(
        label=gettext_lazy("Note"),
        required=False,
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=gettext_lazy("What changed, and why."),
    )
    rules = forms.CharField(
        label=gettext_lazy("Rules"),
        widget=forms.Textarea(attrs={"rows": 24, "spellcheck": "false", "class": "code", "autocomplete": "off"}),
        help_text=gettext_lazy(
            "A JSON list, in order: the first rule whose condition holds decides. The last one must catch everybody."
        ),
    )

    def clean_rules(self) -> Any:
        try:
            data = json.loads(self.cleaned_data["rules"])
        except json.JSONDecodeError as problem:
            raise forms.ValidationError(
                _("Line %(line)d, column %(column)d cannot be read as JSON: %(problem)s.")
                % {"line": problem.lineno, "column": problem.colno, "problem": problem.msg}
            ) from problem
        try:
            rulebook.parse(data)
        except DomainError as problem:
            raise forms.ValidationError(problem.message) from problem
        return data


class ThresholdForm(forms.Form):
    """Every number of a draft as a field, rule by rule. ``rules()`` is the list with the numbers that were typed."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=80)
    note = forms.CharField(
        label=gettext_lazy("Note"), required=False, max_length=2000, help_text=gettext_lazy("What changed, and why.")
    )

    def __init__(self, data: Any = None, *, rule_set: RuleSet) -> None:
        self.data_rules = rule_set.rules
        self.places: dict[str, str] = {}
        super().__init__(data, initial={"name": rule_set.name, "note": rule_set.note})
        self._groups: list[list[tuple[Threshold, str]]] = []
        for index in range(len(rule_set.rules)):
            group = []
            for one in thresholds.of_rule(rule_set.rules, index):
                name = f"n-{one.path.replace('.', '-')}"
                self.places[name] = one.path
                self.fields[name] = _number_field(one)
                group.append((one, name))
            self._groups.append(group)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        for name, path in self.places.items():
            if path.endswith(".at_least"):
                most = name.removesuffix("at_least") + "at_most"
                low, high = cleaned.get(name), cleaned.get(most)
                if low is not None and high is not None and low > high:
                    self.add_error(most, _("This is below “at least”. Make it %(n)s or more.") % {"n": num(low)})
        return cleaned

    def groups(self) -> list[list[dict[str, Any]]]:
        """Per rule: the conditions that have numbers, each with its sentence and its fields."""
        shown = []
        for group in self._groups:
            lines: list[dict[str, Any]] = []
            for one, name in group:
                if not lines or lines[-1]["about"] != one.about:
                    lines.append({"about": one.about, "fields": []})
                lines[-1]["fields"].append(self[name])
            shown.append(lines)
        return shown

    def rules(self) -> list[dict[str, Any]]:
        return thresholds.put(self.data_rules, {path: self.cleaned_data[name] for name, path in self.places.items()})


def _number_field(one: Threshold) -> forms.Field:
    label = f"{one.label} ({one.currency})" if one.currency else one.label
    if one.decimals or one.currency:
        return forms.DecimalField(
            label=label, initial=one.value, min_value=one.low, max_value=one.high, decimal_places=one.decimals
        )
    return forms.IntegerField(label=label, initial=one.value, min_value=one.low, max_value=one.high)
