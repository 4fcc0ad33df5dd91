"""Forms of sign-up forms: what the team types, and what a stranger does."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from campaigns.models import SignUpForm
from campaigns.signups.editing import PARTS


class SignUpSettingsForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=120, help_text=_("Only your team sees it."))
    asks_name = forms.BooleanField(
        label=_("Ask for the first name"), required=False, help_text=_("Every further question costs sign-ups.")
    )
    tag = forms.CharField(
        label=_("Tag"), max_length=100, required=False,
        help_text=_("Given to everybody who confirms, for segments and journeys."),
    )  # fmt: skip

    @classmethod
    def of(cls, form: SignUpForm, data: Any = None) -> SignUpSettingsForm:
        return cls(data, initial={"name": form.name, "asks_name": form.asks_name, "tag": form.tag})


class SignUpWordsForm(forms.Form):
    title = forms.CharField(label=_("Title"), max_length=PARTS["title"])
    text = forms.CharField(label=_("Text"), max_length=PARTS["text"], widget=forms.Textarea(attrs={"rows": 3}))
    consent = forms.CharField(
        label=_("What they agree to"), max_length=PARTS["consent"], widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("Stands beside the button. Everybody who signs up keeps the words they read."),
    )  # fmt: skip
    thanks = forms.CharField(
        label=_("After they confirmed"), max_length=PARTS["thanks"], widget=forms.Textarea(attrs={"rows": 2})
    )


class AskForm(forms.Form):
    """What a stranger types. ``website`` is for robots: people do not see it."""

    email = forms.EmailField(
        label=_("Your e-mail"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )
    given_name = forms.CharField(
        label=_("Your first name"), max_length=100, required=False,
        widget=forms.TextInput(attrs={"autocomplete": "given-name"}),
    )  # fmt: skip
    website = forms.CharField(required=False, widget=forms.TextInput(attrs={"tabindex": "-1", "autocomplete": "off"}))

    def __init__(self, *args: Any, asks_name: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not asks_name:
            del self.fields["given_name"]

    @property
    def shown(self) -> list[forms.BoundField]:
        return [one for one in self if one.name != "website"]

    @property
    def is_robot(self) -> bool:
        return bool(self.cleaned_data.get("website"))
