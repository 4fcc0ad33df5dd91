from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from customers.forms import CustomerField
from lifecycle_crm.lib import clock
from loyalty.ledger import MOST_POINTS
from loyalty.models import Entry, Programme


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
    customer = CustomerField()


class LedgerForm(FindForm):
    """Which movements to read. Nothing asked for: the last 30 days of the main programme, or of the first one."""

    MOST_DAYS = 366
    field_order = ("programme", "kind", "since", "until", "customer")

    programme = forms.ModelChoiceField(
        label=_("Programme"), queryset=Programme.objects.filter(kind=Programme.Kind.POINTS), required=False
    )
    kind = forms.ChoiceField(label=_("Kind"), required=False, choices=[("", _("All")), *Entry.Kind.choices])
    since = forms.DateField(label=_("From"), required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label=_("Until"), required=False, widget=forms.DateInput(attrs={"type": "date"}))

    def __init__(self, asked: QueryDict) -> None:
        given = asked.copy()
        today = clock.today()
        given.setdefault("until", today.isoformat())
        given.setdefault("since", (today - timedelta(days=29)).isoformat())
        main = Programme.current() or Programme.objects.order_by("pk").first()
        given.setdefault("programme", str(main.pk) if main else "")
        super().__init__(given)
        self.fields["customer"].required = False

    def clean(self) -> dict[str, Any]:
        found = super().clean() or self.cleaned_data
        since, until = found.get("since"), found.get("until")
        if not {"since", "until"} & set(self.errors):
            if since is None or until is None or since > until:
                self.add_error("until", _("Say both days; the last is not before the first."))
            elif (until - since).days >= self.MOST_DAYS:
                self.add_error("until", _("Ask for at most a year at once."))
        return found

    def asked(self) -> dict[str, Any]:
        """What ``queries.movements`` takes."""
        found = self.cleaned_data
        return {
            "programme": found["programme"],
            "kind": found["kind"],
            "customer": found["customer"],
            "start": clock.day_start(found["since"]),
            "end": clock.day_end(found["until"]),
        }
