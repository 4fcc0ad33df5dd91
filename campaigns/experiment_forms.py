"""What a person fills in to set an experiment up."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from campaigns import texts
from campaigns.experiments import asking
from campaigns.experiments.asking import Wanted
from campaigns.models import LABELS, Experiment, Template

OTHERS = LABELS[1:]


class ExperimentForm(forms.Form):
    """The fields of ``asking.create``. Version A is what the campaign says today; another one counts when it has a share."""

    name = forms.CharField(label=_("Name"), max_length=120, help_text=_("Only your team sees it."))
    campaign = forms.ChoiceField(label=_("Where"), help_text=_("A campaign, or a message of a journey."))
    measure = forms.ChoiceField(label=_("Main measure"), choices=Experiment.Measure.choices)
    lift_percent = forms.IntegerField(
        label=_("Smallest difference worth having, per cent"),
        min_value=1,
        max_value=500,
        initial=20,
        help_text=_("Of what it is today: 20 means from 3.0 to 3.6 per cent."),
    )
    window_days = forms.IntegerField(
        label=_("Days counted after the message"), min_value=1, max_value=60, initial=7,
    )  # fmt: skip
    stated_percent = forms.FloatField(
        label=_("Share of people who do it today, per cent"),
        min_value=0.01,
        max_value=99,
        required=False,
        help_text=_("Leave it empty where this campaign has been sent before: then it is measured."),
    )
    share_a = forms.IntegerField(label=_("Share, per cent"), min_value=1, max_value=99, initial=50)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.campaigns = {str(one.pk): one for one in asking.askable()}
        self.fields["campaign"].choices = [  # type: ignore[attr-defined]
            (key, f"{one.name} ({one.get_kind_display()})") for key, one in self.campaigns.items()
        ]
        for label in OTHERS:
            low = label.lower()
            self.fields[f"template_{low}"] = forms.ModelChoiceField(
                label=_("Text"), queryset=texts.choosable(), required=False, empty_label=_("The same text as A"),
                to_field_name="key",
            )  # fmt: skip
            self.fields[f"hour_{low}"] = forms.IntegerField(
                label=_("Sent at this hour"), min_value=0, max_value=23, required=False,
                help_text=_("Where they live; empty: as soon as it may leave."),
            )  # fmt: skip
            self.fields[f"general_{low}"] = forms.BooleanField(
                label=_("Without personal values"), required=False,
                help_text=_("As it reads for somebody of whom nothing is known."),
            )  # fmt: skip
            self.fields[f"share_{low}"] = forms.IntegerField(
                label=_("Share, per cent"), min_value=1, max_value=99, required=False,
                initial=50 if label == OTHERS[0] else None,
            )  # fmt: skip

    def general(self) -> list[Any]:
        """The fields about the whole."""
        names = ("name", "campaign", "measure", "lift_percent", "window_days", "stated_percent")
        return [self[name] for name in names]

    def versions(self) -> list[tuple[str, list[Any]]]:
        """(letter, fields) of B to D."""
        kinds = ("template", "hour", "general", "share")
        return [(label, [self[f"{kind}_{label.lower()}"] for kind in kinds]) for label in OTHERS]

    def wanted(self) -> dict[str, Any]:
        """What ``asking.create`` takes, of a form that is valid."""
        values = self.cleaned_data
        versions = [Wanted(values["share_a"])]
        for low in (label.lower() for label in OTHERS):
            if values[f"share_{low}"]:
                template: Template | None = values[f"template_{low}"]
                versions.append(
                    Wanted(values[f"share_{low}"], template, values[f"hour_{low}"], values[f"general_{low}"])
                )
        return {
            "campaign": self.campaigns[values["campaign"]],
            "versions": versions,
            **{name: values[name] for name in ("name", "measure", "lift_percent", "window_days", "stated_percent")},
        }
