from __future__ import annotations

import secrets
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from customers.models import Customer, email_key
from loyalty.ledger import MOST_POINTS


class Movement(forms.Form):
    """A form that moves points. Its hidden key makes a second press of the button the same request."""

    key = forms.RegexField(regex=r"^[A-Za-z0-9_-]{16,64}$", widget=forms.HiddenInput, initial=lambda: new_key())

    def clean_key(self) -> str:
        return f"form:{self.cleaned_data['key']}"


def new_key() -> str:
    return secrets.token_urlsafe(18)


def reason_field(*, required: bool, help_text: Any = "") -> forms.CharField:
    return forms.CharField(label=_("Reason"), required=required, max_length=300, help_text=help_text)


class RedeemForm(Movement):
    points = forms.IntegerField(label=_("Points"), min_value=1, max_value=MOST_POINTS)
    reason = reason_field(required=False, help_text=_("What they get for the points."))


class AdjustForm(Movement):
    points = forms.IntegerField(
        label=_("Points"),
        min_value=-MOST_POINTS,
        max_value=MOST_POINTS,
        help_text=_("To give points write 50, to take points write -50."),
    )
    reason = reason_field(required=True, help_text=_("It stays in the customer's history."))

    def clean_points(self) -> int:
        points: int = self.cleaned_data["points"]
        if points == 0:
            raise forms.ValidationError(_("Write a number other than 0."), code="invalid_points")
        return points


class UndoForm(Movement):
    """``left`` is how many points can be taken back; without it the entry is given back as a whole."""

    points = forms.IntegerField(label=_("Points"), min_value=1)
    reason = reason_field(required=True, help_text=_("It stays in the customer's history."))

    def __init__(self, *args: Any, left: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if left:
            self.fields["points"] = forms.IntegerField(
                label=_("Points"), min_value=1, max_value=left, initial=left, help_text=_("All that is left, or fewer.")
            )
        else:
            del self.fields["points"]


class FindForm(forms.Form):
    customer = forms.CharField(
        label=_("Customer"), max_length=254, help_text=_("Their e-mail address, or their number such as #812.")
    )

    def clean_customer(self) -> Customer:
        words = self.cleaned_data["customer"].strip()
        number = words.removeprefix("#")
        found = (
            Customer.objects.filter(pk=int(number)).first()
            if number.isascii() and number.isdigit() and len(number) < 19
            else Customer.objects.filter(email_key=email_key(words)).first()
        )
        if found is None:
            raise forms.ValidationError(
                _("No customer has this address or number. Copy it from the customer's page."), code="unknown_customer"
            )
        return found
