"""Forms of customers: what a person types, as the verbs take it."""

from __future__ import annotations

from typing import Any

import phonenumbers
from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from customers import finding, identity, importing
from customers.models import Consent, Customer, ImportRun
from lifecycle_crm.lib.errors import DomainError
from lifecycle_crm.templatetags.crm import locale

BIGGEST_UPLOAD = 50 * 1024 * 1024


def _checked(check: Any, value: str) -> str:
    """A field's own check, with its sentence at the field."""
    try:
        return check(value) if value else ""
    except DomainError as problem:
        raise ValidationError(problem.message, code=problem.code) from None


def _country_choices() -> list[tuple[str, str]]:
    names = {str(code): name for code, name in locale().territories.items()}
    codes = [code for code in names if len(code) == 2 and code.isalpha() and code not in _NO_COUNTRIES]
    return [("", "–"), *sorted(((code, names[code]) for code in codes), key=lambda pair: pair[1])]


_NO_COUNTRIES = {"EU", "EZ", "UN", "XA", "XB", "ZZ", "QO"}


class CustomerField(forms.CharField):
    """One customer, meant by their address or number. ``None`` where nothing is typed and nothing has to be."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("label", gettext_lazy("Customer"))
        kwargs.setdefault("help_text", gettext_lazy("Their e-mail address, or their number such as #812."))
        super().__init__(max_length=254, **kwargs)

    def clean(self, value: Any) -> Customer | None:
        text = super().clean(value)
        if not text:
            return None
        if (found := finding.addressed(text)) is None:
            raise ValidationError(
                _("No customer has this address or number. Copy it from the customer's page."), code="unknown_customer"
            )
        return found


class CustomerForm(forms.Form):
    """The basic data of one customer. A phone number without its country code is read as one of their country."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=200, required=False)
    email = forms.EmailField(label=gettext_lazy("E-mail"), max_length=254, required=False)
    phone = forms.CharField(
        label=gettext_lazy("Phone"),
        max_length=40,
        required=False,
        help_text=gettext_lazy(
            "With the country code, such as +46 70 123 45 67, or as it is dialled in their country."
        ),
    )
    language = forms.ChoiceField(
        label=gettext_lazy("Language"), choices=[("", "–"), *settings.LANGUAGES], required=False
    )
    country = forms.ChoiceField(label=gettext_lazy("Country"), choices=_country_choices, required=False)
    city = forms.CharField(label=gettext_lazy("City"), max_length=100, required=False)
    time_zone = forms.CharField(
        label=gettext_lazy("Time zone"),
        max_length=40,
        required=False,
        help_text=format_lazy(
            gettext_lazy("Such as Europe/Stockholm. Empty: the shop's, {zone}."), zone=settings.SHOP_TIME_ZONE
        ),
    )

    FIELDS = ("name", "email", "phone", "language", "country", "city", "time_zone")

    def __init__(self, *args: Any, customer: Customer, **kwargs: Any) -> None:
        kwargs.setdefault("initial", {name: getattr(customer, name) for name in self.FIELDS})
        super().__init__(*args, **kwargs)
        language: Any = self.fields["language"]
        if customer.language and customer.language not in dict(settings.LANGUAGES):
            language.choices = [*language.choices, (customer.language, customer.language)]

    def clean_time_zone(self) -> str:
        return _checked(identity.time_zone, self.cleaned_data["time_zone"])

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if number := data.get("phone"):
            try:
                data["phone"] = e164(number, data.get("country") or "")
            except ValidationError as problem:
                self.add_error("phone", problem)
        return data

    def changes(self) -> dict[str, str]:
        """What differs from what is stored; the verb leaves the rest as it is."""
        return {name: self.cleaned_data[name] for name in self.FIELDS if self.cleaned_data[name] != self.initial[name]}


def e164(number: str, country: str) -> str:
    """``"070-123 45 67", "SE"`` → ``"+46701234567"``. Raises ``ValidationError`` for what no telephone answers to."""
    try:
        parsed = phonenumbers.parse(number, country or None)
    except phonenumbers.NumberParseException:
        parsed = None
    if parsed is None or not phonenumbers.is_possible_number(parsed):
        raise ValidationError(
            _("%(number)s is not a phone number we can read. Write it with its country code, such as +46701234567.")
            % {"number": number},
            code="invalid_phone",
        )
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))


class ConsentForm(forms.Form):
    """What a customer said to us, in their words' place: purpose, channel, yes or no."""

    purpose = forms.ChoiceField(label=gettext_lazy("About"), choices=Consent.Purpose.choices)
    channel = forms.ChoiceField(label=gettext_lazy("By"), choices=Consent.Channel.choices)
    is_granted = forms.TypedChoiceField(
        label=gettext_lazy("They said"),
        choices=[("yes", gettext_lazy("Yes, you may")), ("no", gettext_lazy("No, please do not"))],
        coerce=lambda value: value == "yes",
        widget=forms.RadioSelect,
    )
    source = forms.CharField(
        label=gettext_lazy("How they told us"),
        max_length=40,
        help_text=gettext_lazy("Such as phone, shop or letter. It is the proof."),
    )


class UploadForm(forms.Form):
    kind = forms.ChoiceField(
        label=gettext_lazy("What is in the file"), choices=ImportRun.Kind.choices, widget=forms.RadioSelect
    )
    file = forms.FileField(
        label=gettext_lazy("File"),
        help_text=gettext_lazy("CSV with a header line, up to 50 MB. Larger files: python manage.py import."),
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,.tsv,.txt,text/csv"}),
    )
    source = forms.CharField(
        label=gettext_lazy("Where it comes from"),
        max_length=40,
        initial="csv",
        help_text=gettext_lazy("A short name of the system. Customer and order numbers are kept apart by it."),
    )
    encoding = forms.ChoiceField(
        label=gettext_lazy("Letters"),
        required=False,
        choices=[
            ("", gettext_lazy("Find out (UTF-8)")),
            ("cp1252", gettext_lazy("Windows, western Europe (cp1252)")),
            ("cp1250", gettext_lazy("Windows, central Europe (cp1250)")),
            ("iso8859-2", gettext_lazy("ISO 8859-2")),
        ],
        help_text=gettext_lazy("Change this only when å, ł or č come out wrong."),
    )

    def clean_file(self) -> Any:
        """Refuse by size and name here; what is inside is looked at by ``importing``."""
        file = self.cleaned_data["file"]
        if file.size > BIGGEST_UPLOAD:
            raise ValidationError(
                _("The file is larger than 50 MB. Split it, or bring it in with: python manage.py import."),
                code="too_large",
            )
        if not file.name.lower().endswith((".csv", ".tsv", ".txt")):
            raise ValidationError(
                _("%(name)s is not a CSV file. Save it as “CSV UTF-8” and choose that.") % {"name": file.name},
                code="not_csv",
            )
        head = file.read(4096)
        file.seek(0)
        if b"\x00" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ValidationError(_("The file is not text. Save it as “CSV UTF-8” and choose that."), code="not_csv")
        return file


_FIELD_LABELS = {
    "customer_id": gettext_lazy("Customer number"),
    "email": gettext_lazy("E-mail"),
    "name": gettext_lazy("Name"),
    "given_name": gettext_lazy("Given name"),
    "kind": gettext_lazy("Person or company"),
    "phone": gettext_lazy("Phone"),
    "language": gettext_lazy("Language"),
    "time_zone": gettext_lazy("Time zone"),
    "country": gettext_lazy("Country"),
    "city": gettext_lazy("City"),
    "birth_date": gettext_lazy("Birth date"),
    "tags": gettext_lazy("Tags"),
    "known_since": gettext_lazy("Known since"),
    "acquisition_source": gettext_lazy("Source"),
    "acquisition_medium": gettext_lazy("Medium"),
    "acquisition_campaign": gettext_lazy("Campaign"),
    "acquisition_cost": gettext_lazy("Acquisition cost"),
    "may_email": gettext_lazy("Agreed to offers by e-mail"),
    "order_id": gettext_lazy("Order number"),
    "placed_at": gettext_lazy("Date of the order"),
    "amount": gettext_lazy("Amount"),
    "currency": gettext_lazy("Currency"),
    "rate": gettext_lazy("Exchange rate"),
    "items": gettext_lazy("Items"),
}


def _field_choices(kind: str) -> list[tuple[str, Any]]:
    return [("", _("Leave out")), *((name, _FIELD_LABELS.get(name, name)) for name in importing.FIELDS[kind])]


class ColumnsForm(forms.Form):
    """How the columns of a file are read: one select per column, beside what stands in them."""

    date_format = forms.CharField(
        label=gettext_lazy("Date format"),
        required=False,
        max_length=40,
        help_text=gettext_lazy("Empty: year-month-day. Otherwise such as %d.%m.%Y or %m/%d/%Y."),
    )
    currency = forms.CharField(label=gettext_lazy("Currency"), required=False, max_length=3)
    create_customers = forms.BooleanField(
        label=gettext_lazy("Make customers who are not there yet"), required=False, initial=True
    )

    def __init__(self, *args: Any, run: ImportRun, preview: importing.Preview, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.columns = preview.columns
        for index, column in enumerate(preview.columns):
            self.fields[f"column_{index}"] = forms.ChoiceField(
                label=column or _("Column %(n)d") % {"n": index + 1},
                choices=_field_choices(run.kind),
                required=False,
                initial=preview.mapping.get(column, ""),
            )
        self.fields["currency"].initial = settings.SHOP_CURRENCY
        if run.kind == ImportRun.Kind.CUSTOMERS:
            del self.fields["create_customers"]

    def column_fields(self) -> list[Any]:
        return [self[f"column_{index}"] for index in range(len(self.columns))]

    def mapping(self) -> dict[str, str]:
        """``{column: field}`` of the columns that are read."""
        chosen = {column: self.cleaned_data[f"column_{index}"] for index, column in enumerate(self.columns)}
        return {column: name for column, name in chosen.items() if name}

    def options(self) -> dict[str, Any]:
        return {
            "date_format": self.cleaned_data["date_format"].strip(),
            "currency": self.cleaned_data["currency"].strip(),
            "create_customers": self.cleaned_data.get("create_customers", False),
        }
