from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from campaigns import texts
from campaigns.models import Template
from stages.models import StageKey


class TextField(forms.ModelChoiceField):
    """Templates to choose from, each with the way it is sent."""

    def label_from_instance(self, obj: Template) -> str:
        return texts.label(obj)


class BroadcastForm(forms.Form):
    """The fields of ``audience.draft`` as a person fills them in: the audience is a choice of stages."""

    name = forms.CharField(label=_("Name"), max_length=120, help_text=_("Only your team sees it."))
    template = TextField(label=_("Text"), queryset=Template.objects.none(), empty_label=None)
    stages = forms.MultipleChoiceField(
        label=_("Who gets it"),
        choices=StageKey.choices,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Everybody who stands in one of these stages when you press Send."),
    )
    holdout_percent = forms.IntegerField(
        label=_("Holdout, per cent"),
        min_value=0,
        max_value=90,
        initial=10,
        help_text=_("So many get nothing on purpose. Comparing the two groups shows what the message really caused."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["template"].queryset = texts.choosable()  # type: ignore[attr-defined]
