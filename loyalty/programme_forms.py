"""Forms of programmes, earning rules and tiers: what a person types, as the verbs take it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.utils.dates import WEEKDAYS
from django.utils.translation import gettext_lazy as _

from customers.forms import CustomerField
from customers.models import Event, Segment
from customers.queries import order_sources
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import DomainError
from lifecycle_crm.lib.money import from_minor, to_minor
from loyalty import tiers, trial
from loyalty.forms import Movement
from loyalty.models import EarningRule, Ladder, Programme, Reward
from loyalty.rules import MAY_HAVE_PER, MAY_HAVE_SUBJECT, MOST, MOST_PERCENT, NEEDS_SUBJECT, OF_ORDERS
from stages.models import StageKey

Kind = EarningRule.Kind
ROOM = 6
"""So many tiers a form has room for at first; two more than there are later."""

_DAY = {"widget": forms.DateInput(attrs={"type": "date"})}


def _money(text: Any, form: forms.Form, name: str) -> int | None:
    if text in (None, ""):
        return None
    try:
        return to_minor(text, settings.SHOP_CURRENCY)
    except DomainError as problem:
        form.add_error(name, problem.message)
        return None


class ProgrammeForm(forms.Form):
    """A programme's own fields; its kind is chosen when it is made and never changes."""

    name = forms.CharField(label=_("Name"), max_length=80)
    about = forms.CharField(label=_("In one sentence"), max_length=300, required=False)
    kind = forms.ChoiceField(label=_("Kind"), choices=Programme.Kind.choices)
    joining = forms.ChoiceField(
        label=_("Who is in it"),
        choices=Programme.Joining.choices,
        help_text=_("Memberships and cards are always joined by customers."),
    )
    fee = forms.DecimalField(
        label=_("Fee"), min_value=0, required=False, help_text=_("What joining or renewing costs. Empty: free.")
    )
    term_months = forms.IntegerField(
        label=_("Months a stay runs"), min_value=1, max_value=1200, required=False, help_text=_("Empty: without end.")
    )
    pending_days = forms.IntegerField(
        label=_("Days until points can be used"), min_value=0, max_value=3650, initial=14,
        help_text=_("As long as goods can be returned."),
    )  # fmt: skip
    expiry_months = forms.IntegerField(
        label=_("Months until points expire"), min_value=1, max_value=1200, required=False, help_text=_("Empty: never.")
    )
    value = forms.DecimalField(
        label=_("Value of 100 points"), min_value=0, initial=1, help_text=_("In the shop's currency; for the books.")
    )
    position = forms.IntegerField(
        label=_("Order"), min_value=0, max_value=10_000, initial=100,
        help_text=_("The active points programme with the smallest number is the main one."),
    )  # fmt: skip

    POINTS = ("pending_days", "expiry_months", "value")

    def __init__(self, *args: Any, programme: Programme | None = None, **kwargs: Any) -> None:
        if programme is not None:
            currency = settings.SHOP_CURRENCY
            kwargs["initial"] = {
                name: getattr(programme, name)
                for name in ("name", "about", "joining", "term_months", "pending_days", "expiry_months", "position")
            } | {
                "fee": from_minor(programme.fee_minor, currency) if programme.fee_minor else None,
                "value": from_minor(programme.value_minor_per_100, currency),
            }
        super().__init__(*args, **kwargs)
        if programme is not None:
            del self.fields["kind"]
            if programme.kind != Programme.Kind.POINTS:
                for name in (*self.POINTS, "joining"):
                    del self.fields[name]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        for name, field in (("fee", "fee_minor"), ("value", "value_minor_per_100")):
            if name in cleaned:
                cleaned[field] = _money(cleaned.pop(name), self, name) or 0
        return cleaned


class RuleForm(forms.Form):
    """An earning rule of one kind: only the fields that kind has."""

    name = forms.CharField(
        label=_("Name"), max_length=80, help_text=_("Customers read it, such as “double points on Sundays”.")
    )
    points = forms.IntegerField(label=_("Points"), min_value=1, max_value=MOST)
    per_money = forms.DecimalField(label=_("For each"), help_text=_("An amount in the shop's currency, such as 10."))
    percent = forms.IntegerField(
        label=_("Percent"), min_value=101, max_value=MOST_PERCENT, initial=200, help_text=_("200 doubles the points.")
    )
    subject = forms.CharField(label=_("Of what"), max_length=120)
    property = forms.CharField(
        label=_("Property to count by"), max_length=80, required=False,
        help_text=_("A number that the event carries, such as km. Empty: for each event."),
    )  # fmt: skip
    per = forms.IntegerField(
        label=_("For each so many of it"),
        min_value=1,
        max_value=10**9,
        required=False,
        help_text=_("Empty: for each one."),
    )
    weekdays = forms.MultipleChoiceField(
        label=_("Only on these weekdays"), choices=[(str(n + 1), name) for n, name in WEEKDAYS.items()], required=False,
        widget=forms.CheckboxSelectMultiple,
    )  # fmt: skip
    dates = forms.CharField(
        label=_("Only on these dates"), required=False, max_length=700,
        help_text=_("2026-12-24, or 12-24 for every year, separated by commas."),
    )  # fmt: skip
    segment = forms.ModelChoiceField(
        label=_("Only for people in"), queryset=Segment.objects.filter(archived_at=None), required=False,
        empty_label=_("everybody"), help_text=_("Who the last night before found in the segment."),
    )  # fmt: skip
    tiers = forms.MultipleChoiceField(
        label=_("Only for these tiers"), required=False, widget=forms.CheckboxSelectMultiple
    )
    stages = forms.MultipleChoiceField(
        label=_("Only for these stages"), choices=StageKey.choices, required=False, widget=forms.CheckboxSelectMultiple
    )
    channels = forms.MultipleChoiceField(
        label=_("Only for orders from"), required=False, widget=forms.CheckboxSelectMultiple,
        help_text=_("Where orders have come from so far. None ticked: all."),
    )  # fmt: skip
    limit_points = forms.IntegerField(label=_("At most so many points"), min_value=1, max_value=MOST, required=False)
    limit_times = forms.IntegerField(label=_("At most so many times"), min_value=1, max_value=MOST, required=False)
    limit_per = forms.ChoiceField(
        label=_("The limit counts"), choices=[("", _("no limit")), *EarningRule.Per.choices], required=False
    )
    starts_on = forms.DateField(label=_("First day"), required=False, help_text=_("Empty: from now on."), **_DAY)
    ends_on = forms.DateField(
        label=_("Last day"), required=False, help_text=_("It is included. Empty: until you stop it."), **_DAY
    )

    def __init__(
        self, *args: Any, kind: str, programme: Programme, rule: EarningRule | None = None, **kwargs: Any
    ) -> None:
        if rule is not None:
            kwargs["initial"] = self._read(rule)
        super().__init__(*args, **kwargs)
        self.kind, self.rule = kind, rule
        for name in self._absent(kind):
            del self.fields[name]
        names = [(one.key, one.name) for one in programme.tiers.order_by("threshold")]
        if names:
            self.fields["tiers"].choices = names
        else:
            del self.fields["tiers"]
        if "channels" in self.fields:
            known = dict.fromkeys([*order_sources(), *(rule.channels if rule else [])])
            self.fields["channels"].choices = [(name, name) for name in known]
        if kind == Kind.STAGE:
            self.fields["subject"] = forms.ChoiceField(label=_("Stage"), choices=StageKey.choices)
        elif "subject" in self.fields:
            self.fields["subject"].required = kind in NEEDS_SUBJECT
            self.fields["subject"].label, self.fields["subject"].help_text = self._subject(kind)
        if kind in (Kind.PRODUCT, Kind.CATEGORY):
            self.fields["per_money"].required = False
            self.fields["per_money"].help_text = _("An amount in the shop's currency. Empty: for each piece.")

    @staticmethod
    def _absent(kind: str) -> set[str]:
        gone: set[str] = {"points"} if kind == Kind.MULTIPLIER else {"percent"}
        if kind not in MAY_HAVE_SUBJECT:
            gone.add("subject")
        if kind not in MAY_HAVE_PER - {Kind.EVENT}:
            gone.add("per_money")
        if kind not in OF_ORDERS | {Kind.MULTIPLIER}:
            gone.add("channels")
        if kind != Kind.EVENT:
            gone |= {"property", "per"}
        if kind in (Kind.FIRST_ORDER, Kind.BIRTHDAY):
            gone |= {"limit_points", "limit_times", "limit_per"}
        return gone

    @staticmethod
    def _subject(kind: str) -> tuple[Any, Any]:
        match kind:
            case Kind.PRODUCT:
                return _("Product number"), _("The SKU of the product.")
            case Kind.CATEGORY:
                return _("Category"), _("As it stands on the products.")
            case Kind.SURVEY:
                return _("Survey"), _("The key of one survey. Empty: any.")
            case Kind.MULTIPLIER:
                return _("Points of which event"), _("The name of an event. Empty: the points of orders.")
        known = Event.objects.order_by("name").values_list("name", flat=True).distinct()[:8]
        return _("Name of the event"), _("Seen so far: %(names)s.") % {"names": ", ".join(known) or "–"}

    @staticmethod
    def _read(rule: EarningRule) -> dict[str, Any]:
        now = clock.now()
        return {
            name: getattr(rule, name)
            for name in (
                "name", "points", "percent", "subject", "property", "per", "segment", "tiers", "stages",
                "channels", "limit_points", "limit_times", "limit_per",
            )
        } | {
            "weekdays": list(rule.weekdays),
            "dates": ", ".join(rule.dates),
            "per_money": from_minor(rule.per, settings.SHOP_CURRENCY) if rule.per and rule.kind != Kind.EVENT else None,
            "starts_on": clock.business_date(rule.starts_at) if rule.starts_at and rule.starts_at > now else None,
            "ends_on": clock.business_date(rule.ends_at - timedelta(seconds=1)) if rule.ends_at else None,
        }  # fmt: skip

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if "per_money" in cleaned:
            cleaned["per"] = _money(cleaned.pop("per_money"), self, "per_money")
        return cleaned

    def verb(self) -> dict[str, Any]:
        """What ``rules.create`` and ``rules.edit`` take."""
        values = dict(self.cleaned_data)
        starts, ends = values.pop("starts_on", None), values.pop("ends_on", None)
        values["weekdays"] = "".join(values["weekdays"])
        values["dates"] = [text for part in values["dates"].split(",") if (text := part.strip())]
        values["ends_at"] = clock.day_end(ends) if ends else None
        if starts:
            values["starts_at"] = clock.day_start(starts)
        elif self.rule is not None:
            values["starts_at"] = self.rule.starts_at
        return values


class TrialForm(forms.Form):
    """What a rule is tried with: an order that exists, or an amount or number of somebody's, or of somebody new."""

    use_required_attribute = False
    order = forms.CharField(
        label=_("Order number"), max_length=120, required=False, help_text=_("An order you know. Empty: a made-up one.")
    )
    customer = CustomerField(
        required=False, help_text=_("E-mail address, or number such as #812. Empty: somebody new.")
    )
    amount = forms.DecimalField(label=_("Amount"), min_value=0, max_value=10**9, required=False, initial=100)
    value = forms.IntegerField(label=_("Number in the event"), min_value=0, max_value=10**9, required=False, initial=1)

    def __init__(self, *args: Any, kind: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        is_event = kind in (Kind.EVENT, Kind.REFERRAL, Kind.REVIEW)
        unused = ("order", "amount") if is_event else ("value",) if kind != Kind.MULTIPLIER else ()
        if kind in (Kind.SURVEY, Kind.STAGE, Kind.BIRTHDAY):
            unused = ("order", "amount", "value")
        for name in unused:
            del self.fields[name]
        for field in self.fields.values():
            field.widget.attrs["form"] = "rule-form"  # They stand beside the form they are sent with.

    def clean_order(self) -> Any:
        try:
            return trial.find_order(self.cleaned_data["order"]) if self.cleaned_data["order"].strip() else None
        except DomainError as problem:
            raise forms.ValidationError(problem.message) from None

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        cleaned["amount_minor"] = _money(cleaned.get("amount"), self, "amount") or 0
        return cleaned

    def verb(self) -> dict[str, Any]:
        given = self.cleaned_data
        told: dict[str, Any] = {"customer": given.get("customer"), "order": given.get("order")}
        told["amount_minor"] = given.get("amount_minor", 0)
        if given.get("value") is not None:
            told["value"] = given["value"]
        return told


class JoinForm(Movement):
    """A programme to join, and what the customer paid for it."""

    programme = forms.ModelChoiceField(
        label=_("Programme"), queryset=Programme.objects.filter(is_active=True, joining=Programme.Joining.ASKED),
        to_field_name="key", empty_label=None,
    )  # fmt: skip
    paid = forms.DecimalField(
        label=_("Paid"), min_value=0, max_value=10**7, required=False, help_text=_("The fee, if there is one.")
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        cleaned["paid_minor"] = _money(cleaned.pop("paid", None), self, "paid") or 0
        return cleaned

    def verb(self) -> dict[str, Any]:
        return dict(self.cleaned_data)


class PaidForm(Movement):
    """One more term for the fee of today: the price is shown with the button, and another one is refused."""

    paid_minor = forms.IntegerField(min_value=0, max_value=10**9, widget=forms.HiddenInput)

    def __init__(self, *args: Any, programme: Programme, **kwargs: Any) -> None:
        super().__init__(*args, auto_id=False, initial={"paid_minor": programme.fee_minor}, **kwargs)

    def verb(self) -> dict[str, Any]:
        return dict(self.cleaned_data)


class LadderForm(forms.Form):
    """How tiers are decided, and room for a few of them: a row without a name is none."""

    measure = forms.ChoiceField(label=_("What counts"), choices=Ladder.Measure.choices)
    window = forms.ChoiceField(label=_("Over which time"), choices=Ladder.Window.choices)
    window_months = forms.IntegerField(
        label=_("Months"), min_value=1, max_value=120, initial=12, help_text=_("Of “the last months”. 12 are 365 days.")
    )
    grace_days = forms.IntegerField(
        label=_("Days of grace"), min_value=0, max_value=1100, initial=0,
        help_text=_("Who has too little keeps the tier for so long."),
    )  # fmt: skip
    step_down = forms.ChoiceField(
        label=_("Step down"), choices=Ladder.StepDown.choices, initial=Ladder.StepDown.BALANCE
    )

    def __init__(self, *args: Any, programme: Programme, **kwargs: Any) -> None:
        ladder = Ladder.objects.filter(programme=programme).first()
        held = list(programme.tiers.order_by("threshold"))
        self.rows = max(ROOM // 2, len(held) + 2)
        is_money = ladder is not None and ladder.measure == Ladder.Measure.SPEND
        initial: dict[str, Any] = {}
        if ladder is not None:
            initial = {name: getattr(ladder, name) for name in self.base_fields}
        for n, one in enumerate(held):
            number = from_minor(one.threshold, settings.SHOP_CURRENCY) if is_money else one.threshold
            initial |= {
                f"key_{n}": one.key, f"name_{n}": one.name, f"threshold_{n}": number,
                f"benefits_{n}": "\n".join(one.benefits), f"perks_{n}": one.perks,
            }  # fmt: skip
        super().__init__(*args, initial=initial, **kwargs)
        if programme.kind != Programme.Kind.POINTS:
            self.fields["measure"].choices = [one for one in Ladder.Measure.choices if one[0] != Ladder.Measure.POINTS]
        for n in range(self.rows):
            self.fields[f"key_{n}"] = forms.SlugField(required=False, max_length=40, widget=forms.HiddenInput)
            self.fields[f"name_{n}"] = forms.CharField(label=_("Name"), max_length=60, required=False)
            self.fields[f"threshold_{n}"] = forms.DecimalField(
                label=_("From"), required=False, help_text=_("Points, money or orders, as it counts.")
            )
            self.fields[f"benefits_{n}"] = forms.CharField(
                label=_("Benefits"),
                required=False,
                widget=forms.Textarea(attrs={"rows": 2}),
                help_text=_("One a line."),
            )
            self.fields[f"perks_{n}"] = forms.MultipleChoiceField(
                label=_("Perks"),
                required=False,
                choices=Reward.Perk.choices,
                widget=forms.CheckboxSelectMultiple,
                help_text=_("Shown to staff and told to the shop's other systems."),
            )

    def own_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.base_fields]

    def row_fields(self) -> list[list[forms.BoundField]]:
        return [
            [self[f"{name}_{n}"] for name in ("key", "name", "threshold", "benefits", "perks")]
            for n in range(self.rows)
        ]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        steps: list[tiers.Step] = []
        for n in range(self.rows):
            name, number = cleaned.get(f"name_{n}") or "", cleaned.get(f"threshold_{n}")
            if not name and number is None:
                continue
            if not name or number is None:
                self.add_error(
                    f"name_{n}" if not name else f"threshold_{n}", _("A tier needs a name and where it begins.")
                )
                continue
            if cleaned.get("measure") == Ladder.Measure.SPEND:
                whole = _money(number, self, f"threshold_{n}")
            elif number != int(number):
                self.add_error(f"threshold_{n}", _("Write a whole number."))
                continue
            else:
                whole = int(number)
            benefits = tuple((cleaned.get(f"benefits_{n}") or "").splitlines())
            perks = tuple(cleaned.get(f"perks_{n}") or ())
            steps.append(tiers.Step(name, whole or 0, benefits, cleaned.get(f"key_{n}") or "", perks))
        cleaned["steps"] = steps
        return cleaned

    def verb(self) -> Mapping[str, Any]:
        """What ``tiers.set_ladder`` takes."""
        return {name: self.cleaned_data[name] for name in (*self.base_fields, "steps")}
