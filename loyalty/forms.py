from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from customers.forms import CustomerField
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.numbers import row_number
from loyalty import journal
from loyalty.ledger import MOST_POINTS
from loyalty.models import EarningRule, Entry, Programme


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
    FIRST = ("programme", "kind", "since", "until", "customer")
    field_order = (*FIRST, "rule", "order", "by", "reason", "least", "most", "ends_from", "ends_to")

    programme = forms.ModelChoiceField(
        label=_("Programme"), queryset=Programme.objects.filter(kind=Programme.Kind.POINTS), required=False
    )
    kind = forms.ChoiceField(label=_("Kind"), required=False, choices=[("", _("All")), *Entry.Kind.choices])
    since = forms.DateField(label=_("From"), required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label=_("Until"), required=False, widget=forms.DateInput(attrs={"type": "date"}))
    rule = forms.ChoiceField(label=_("Rule"), required=False)
    order = forms.CharField(label=_("Order number"), required=False, max_length=120)
    by = forms.ChoiceField(label=_("By"), required=False)
    reason = forms.CharField(label=_("Reason"), required=False, max_length=100, help_text=_("Words that it contains."))
    least = forms.IntegerField(
        label=_("Points from"), required=False, min_value=-MOST_POINTS, max_value=MOST_POINTS
    )  # fmt: skip
    most = forms.IntegerField(label=_("Points to"), required=False, min_value=-MOST_POINTS, max_value=MOST_POINTS)
    ends_from = forms.DateField(
        label=_("Last day from"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )  # fmt: skip
    ends_to = forms.DateField(
        label=_("Last day until"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )  # fmt: skip

    def __init__(self, asked: QueryDict) -> None:
        given = asked.copy()
        today = clock.today()
        given.setdefault("until", today.isoformat())
        given.setdefault("since", (today - timedelta(days=29)).isoformat())
        main = Programme.current() or Programme.objects.order_by("pk").first()
        given.setdefault("programme", str(main.pk) if main else "")
        super().__init__(given)
        self.fields["customer"].required = False
        people = User.objects.order_by("name", "email")[:500]
        self.fields["by"].choices = [  # type: ignore[attr-defined]
            ("", _("All")), (journal.MACHINE, _("Nobody: a rule, the night or an API key")),
            *((str(one.pk), str(one)) for one in people),
        ]  # fmt: skip
        self.fields["rule"].choices = [("", _("All")), *self._rules(given.get("programme", ""))]  # type: ignore[attr-defined]

    @staticmethod
    def _rules(programme: str) -> list[tuple[str, str]]:
        """Each rule of the programme, and each version of one that has several."""
        number = row_number(programme)
        by_key: dict[str, list[EarningRule]] = {}
        for one in (
            EarningRule.objects.filter(programme=number).order_by("position", "key", "version") if number else ()
        ):
            by_key.setdefault(one.key, []).append(one)
        found: list[tuple[str, str]] = []
        for key, versions in by_key.items():
            found.append((f"rule:{key}", versions[-1].name))
            if len(versions) > 1:
                found += [
                    (f"version:{one.pk}", _("%(name)s, version %(n)s") % {"name": one.name, "n": one.version})
                    for one in versions
                ]
        return found

    def clean(self) -> dict[str, Any]:
        found = super().clean() or self.cleaned_data
        since, until = found.get("since"), found.get("until")
        if not {"since", "until"} & set(self.errors):
            if since is None or until is None or since > until:
                self.add_error("until", _("Say both days; the last is not before the first."))
            elif (until - since).days >= self.MOST_DAYS:
                self.add_error("until", _("Ask for at most a year at once."))
        for low, high, sentence in (
            ("least", "most", _("The highest number is below the lowest.")),
            ("ends_from", "ends_to", _("Say both days; the last is not before the first.")),
        ):
            if None not in (found.get(low), found.get(high)) and found[low] > found[high]:
                self.add_error(high, sentence)
        return found

    @property
    def first(self) -> list[forms.BoundField]:
        """The filters that are always in sight."""
        return [self[name] for name in self.FIRST]

    @property
    def more(self) -> list[forms.BoundField]:
        """The others."""
        return [one for one in self if one.name not in self.FIRST]

    @property
    def asks_more(self) -> bool:
        """Whether any of the others is asked, or wrong."""
        return any(one.value() or one.errors for one in self.more)

    def asked(self) -> journal.Asked:
        found = self.cleaned_data
        kind, _colon, which = found["rule"].partition(":")
        return journal.Asked(
            programme=found["programme"],
            kind=found["kind"],
            customer=found["customer"],
            start=clock.day_start(found["since"]),
            end=clock.day_end(found["until"]),
            least=found["least"],
            most=found["most"],
            rule=which if kind == "rule" else "",
            version=EarningRule.objects.get(pk=which) if kind == "version" else None,
            order=found["order"].strip().removeprefix("#"),
            by=found["by"],
            reason=found["reason"].strip(),
            ends_from=clock.day_start(found["ends_from"]) if found["ends_from"] else None,
            ends_before=clock.day_end(found["ends_to"]) if found["ends_to"] else None,
        )
