"""The small forms of a customer's page."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

from stages.models import StageKey


class MoveForm(forms.Form):
    to = forms.ChoiceField(label=gettext_lazy("To"), choices=StageKey.choices)
    reason = forms.CharField(
        label=gettext_lazy("Why"), max_length=300, help_text=gettext_lazy("It stays in their history.")
    )
    pin_until = forms.DateField(
        label=gettext_lazy("Hold them there until"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text=gettext_lazy("Empty: the rules decide again from tonight."),
    )

    def __init__(self, *args: Any, stage: str = "", **kwargs: Any) -> None:
        super().__init__(*args, auto_id="move_%s", **kwargs)
        self.fields["to"].initial = stage


class PointsForm(forms.Form):
    points = forms.IntegerField(
        label=gettext_lazy("Points"),
        min_value=-1_000_000,
        max_value=1_000_000,
        help_text=gettext_lazy("A minus takes points away."),
    )
    reason = forms.CharField(
        label=gettext_lazy("Why"), max_length=300, help_text=gettext_lazy("It stays in their history.")
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, auto_id="points_%s", **kwargs)
