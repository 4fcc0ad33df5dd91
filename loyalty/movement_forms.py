"""Forms of the less common movements: gifts, households, merges, decisions, budgets."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from customers import finding, segments
from customers.forms import CustomerField
from customers.models import Customer, Segment
from lifecycle_crm.accounts.models import Role, User
from lifecycle_crm.lib import clock
from loyalty import grants
from loyalty.forms import Movement, reason_field
from loyalty.ledger import MOST_POINTS
from loyalty.models import Programme, Tier


class _Other(forms.Form):
    """Finds the other customer."""

    customer = CustomerField(label=_("Other customer"))


class TransferForm(Movement, _Other):
    points = forms.IntegerField(label=_("Points"), min_value=1, max_value=MOST_POINTS)
    reason = reason_field(required=False)
    field_order = ("customer", "points", "reason")

    def verb(self, giver: Customer) -> dict[str, Any]:
        given = dict(self.cleaned_data)
        return {"to": given.pop("customer"), "customer": giver, **given}


class MergeForm(Movement, _Other):
    reason = reason_field(required=True, help_text=_("It stays in the history of both."))

    def verb(self, gone: Customer) -> dict[str, Any]:
        given = dict(self.cleaned_data)
        return {"into": given.pop("customer"), "customer": gone, **given}


class HouseholdForm(_Other):
    """Starts a household with a second customer, or adds somebody to the one there is (then without a name)."""

    name = forms.CharField(label=_("Name of the household"), max_length=80)
    field_order = ("name", "customer")

    def __init__(self, *args: Any, is_new: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not is_new:
            del self.fields["name"]


class ReasonForm(forms.Form):
    reason = reason_field(required=True)


class ExtendForm(Movement):
    until = forms.DateField(
        label=_("New last day"), widget=forms.DateInput(attrs={"type": "date"}),
        help_text=_("Points that end later anyway keep their day."),
    )  # fmt: skip
    reason = reason_field(required=True, help_text=_("It stays in the history."))

    def verb(self) -> dict[str, Any]:
        given = dict(self.cleaned_data)
        return {"expires_at": clock.day_end(given.pop("until")), **given}


class GrantForm(Movement):
    """Points for many. What was looked at comes back in ``seen``, so that what is given is what was looked at."""

    LIST = "list"

    programme = forms.ModelChoiceField(label=_("Programme"), queryset=Programme.earning(), empty_label=None)
    whom = forms.ChoiceField(label=_("To whom"))
    people = forms.CharField(
        label=_("People"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text=_("For a list: one number or e-mail address a line."),
    )
    points = forms.IntegerField(label=_("Points for each"), min_value=1, max_value=MOST_POINTS)
    reason = reason_field(required=True, help_text=_("It stays in the history of each of them."))
    seen = forms.CharField(required=False, max_length=100, widget=forms.HiddenInput)
    field_order = ("programme", "whom", "people", "points", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tiers = Tier.objects.filter(programme__is_active=True).select_related("programme")
        found = Segment.objects.filter(archived_at=None).order_by("name")
        self.fields["whom"].choices = [  # type: ignore[attr-defined]
            (_("Segments"), [(f"segment:{one.pk}", one.name) for one in found]),
            (_("Tiers"), [(f"tier:{one.pk}", f"{one.name} · {one.programme}") for one in tiers]),
            (_("Somebody else"), [(self.LIST, _("The people below"))]),
        ]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if data.get("whom") == self.LIST:
            lines = [line for text in data.get("people", "").splitlines() if (line := text.strip())]
            if len(lines) > segments.MOST_LINES:
                self.add_error("people", _("Too many lines at once. Make a segment of these people."))
            found = finding.all_addressed(lines) if not self.errors else {}
            unknown = next((line for line, one in found.items() if one is None), None)
            if unknown is not None:
                self.add_error(
                    "people", _("There is no “%(who)s”. Correct the line.") % {"who": unknown[:80]}
                )  # fmt: skip
            elif not lines and "people" not in self.errors:
                self.add_error("people", _("Name at least one person."))
            data["listed"] = [one.pk for one in found.values() if one]
        return data

    def whose(self) -> grants.Whom:
        """The set of people that was chosen."""
        kind, _colon, pk = self.cleaned_data["whom"].partition(":")
        if kind == "segment":
            return grants.of_segment(Segment.objects.get(pk=pk))
        if kind == "tier":
            return grants.of_tier(Tier.objects.select_related("programme").get(pk=pk))
        return grants.of_list(self.cleaned_data["listed"])

    def asked(self) -> dict[str, Any]:
        """What both the preview and the verb take."""
        data = self.cleaned_data
        return {"whom": self.whose(), "points": data["points"], "programme": data["programme"]}


class SignOffForm(Movement):
    """A note about a date; ``is_again`` where one holds already, which the new one replaces with a reason."""

    note = forms.CharField(
        label=_("Note"),
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("What you looked at, such as: agrees with account 2420."),
    )
    redeemed_percent = forms.IntegerField(
        label=_("Expected redemption, %"),
        min_value=1,
        max_value=100,
        required=False,
        help_text=_("Your assumption, kept with the note. Empty: all of it."),
    )
    reason = reason_field(required=True, help_text=_("Why this note replaces the one that holds."))

    def __init__(self, *args: Any, is_again: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not is_again:
            del self.fields["reason"]


class TakeBackForm(Movement):
    reason = reason_field(required=True, help_text=_("It stays in the history."))


class UnfreezeForm(ReasonForm):
    is_rebuilt = forms.BooleanField(
        label=_("First rebuild the account from its entries"),
        required=False,
        help_text=_("The entries are the truth. Tick this where a balance or a lot was changed past the ledger."),
    )


class AllowanceForm(forms.Form):
    whose = forms.ChoiceField(label=_("For"))
    points = forms.IntegerField(label=_("Points a month"), min_value=0, max_value=MOST_POINTS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        people = User.objects.filter(is_active=True).order_by("name", "email")[:200]
        self.fields["whose"].choices = [  # type: ignore[attr-defined]
            (_("Each person with the role"), [(f"role:{value}", label) for value, label in Role.choices]),
            (_("One person"), [(f"user:{one.pk}", str(one)) for one in people]),
        ]

    def verb(self) -> dict[str, Any]:
        kind, _colon, which = self.cleaned_data["whose"].partition(":")
        whose = {"role": which} if kind == "role" else {"user": User.objects.get(pk=which)}
        return {**whose, "points": self.cleaned_data["points"]}
