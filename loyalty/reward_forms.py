"""Forms of rewards: what a person types, as the verbs take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from customers.models import Product
from lifecycle_crm.lib.errors import DomainError
from lifecycle_crm.lib.money import to_minor
from loyalty.forms import FindForm, Movement
from loyalty.ledger import MOST_POINTS
from loyalty.models import Programme, Reward, RewardPicture, VoucherSeries
from loyalty.models.picture import LONGEST_ALT
from loyalty.vouchers import MOST_CODES

BIGGEST_FILE = 8 * 1024 * 1024
TIERS = 6
"""So many prices of tiers a form has room for."""


class RewardForm(forms.Form):
    """One reward of the catalogue. ``stock_seen`` is what was left when the page was opened."""

    programme = forms.ModelChoiceField(label=_("Programme"), queryset=Programme.objects.none(), empty_label=None)
    name = forms.CharField(label=_("Name"), max_length=120)
    description = forms.CharField(
        label=_("Description"), max_length=500, required=False, widget=forms.Textarea(attrs={"rows": 2})
    )
    kind = forms.ChoiceField(label=_("Kind"), choices=Reward.Kind.choices)
    perk = forms.ChoiceField(
        label=_("Which perk"),
        choices=[("", "–"), *Reward.Perk.choices],
        required=False,
        help_text=_("Only for the kind “Perk”."),
    )
    sku = forms.CharField(
        label=_("Product number"), max_length=80, required=False, help_text=_("Which product of the shop it is.")
    )
    series = forms.ModelChoiceField(
        label=_("Voucher that is given"),
        queryset=VoucherSeries.objects.all(),
        required=False,
        help_text=_("Only for vouchers and discounts: the customer gets a code of this series."),
    )
    points = forms.IntegerField(
        label=_("Price in points"), min_value=0, max_value=MOST_POINTS, help_text=_("0: for nothing.")
    )
    cost_minor = forms.IntegerField(
        label=_("Cost"),
        min_value=0,
        max_value=10**12,
        required=False,
        help_text=_("What one costs the shop, in hundredths (minor units) of its currency."),
    )
    stock = forms.IntegerField(
        label=_("Left"),
        min_value=0,
        max_value=10**9,
        required=False,
        help_text=_("Empty: as many as are asked for."),
    )
    stock_seen = forms.IntegerField(required=False, min_value=0, widget=forms.HiddenInput)
    per_customer = forms.IntegerField(
        label=_("Most per customer"), min_value=1, max_value=10**6, required=False, help_text=_("Empty: any number.")
    )
    starts_on = forms.DateField(label=_("First day"), required=False, widget=forms.DateInput(attrs={"type": "date"}))
    ends_on = forms.DateField(
        label=_("Last day"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text=_("It is included."),
    )
    only_tiers = forms.BooleanField(label=_("Only for tiers that have a price below"), required=False)
    is_active = forms.BooleanField(label=_("Offered to customers"), required=False, initial=True)

    def __init__(
        self, *args: Any, reward: Reward | None = None, tiers: Mapping[str, str] | None = None, **kwargs: Any
    ) -> None:
        prices = {one.tier: one.points for one in reward.prices.all()} if reward else {}
        if reward is not None:
            first = {
                name: getattr(reward, name)
                for name in self.base_fields
                if name not in ("sku", "stock_seen", "programme")
            }
            kwargs["initial"] = {
                **first,
                "programme": reward.programme_id,
                "sku": reward.product.sku if reward.product else "",
                "stock_seen": reward.stock,
            }
        super().__init__(*args, **kwargs)
        self.reward = reward
        programmes: Any = self.fields["programme"]
        programmes.queryset = Programme.objects.filter(is_active=True) | Programme.objects.filter(
            pk=reward.programme_id if reward else None
        )
        if reward is not None:
            del self.fields["programme"]
        names = dict(tiers or {})
        self.tiers = list(dict.fromkeys([*names, *prices]))[:TIERS]
        for place, tier in enumerate(self.tiers):
            self.fields[f"tier_{place}"] = forms.IntegerField(
                label=_("Price for %(tier)s") % {"tier": names.get(tier, tier)},
                min_value=0,
                max_value=MOST_POINTS,
                required=False,
                initial=prices.get(tier),
            )

    def tier_fields(self) -> list[forms.BoundField]:
        return [self[f"tier_{place}"] for place in range(len(self.tiers))]

    def clean_sku(self) -> str:
        sku: str = self.cleaned_data["sku"].strip()
        if sku and not Product.objects.filter(sku=sku).exists():
            raise forms.ValidationError(_("No product has this number. Copy it from an order or the import."))
        return sku

    def verb(self) -> dict[str, Any]:
        """What the verb takes."""
        data = dict(self.cleaned_data)
        sku = data.pop("sku")
        seen = data.pop("stock_seen")
        prices = {
            tier: data.pop(f"tier_{place}")
            for place, tier in enumerate(self.tiers)
        }  # fmt: skip
        given: dict[str, Any] = {
            **data,
            "product": Product.objects.filter(sku=sku).first() if sku else None,
            "cost_minor": data["cost_minor"] or 0,
            "prices": {tier: points for tier, points in prices.items() if points is not None},
        }
        if self.reward is not None:
            if data["stock"] == seen:
                del given["stock"]
            else:
                given["stock_seen"] = seen
        return given


class PictureForm(forms.Form):
    """The picture of a reward, or other words for the one it has; ``seen`` is the SHA-256 of the one on the page, which
    writes it: after a refusal it is that of the picture that is looked at by then."""

    file = forms.FileField(
        label=_("Picture"),
        allow_empty_file=True,
        widget=forms.FileInput(attrs={"accept": "image/jpeg,image/png,image/webp"}),
        help_text=_(
            "JPEG, PNG or WebP, at most 8 MB. It is drawn anew: what the camera noted, such as the place, is not kept."
        ),
        error_messages={"required": _("Choose a picture.")},
    )
    alt = forms.CharField(
        label=_("What it shows"),
        widget=forms.TextInput(attrs={"maxlength": LONGEST_ALT}),
        help_text=_("In a few words, for those who do not see it. Such as: a blue mug with a white handle."),
        error_messages={"required": _("Describe the picture for those who do not see it.")},
    )
    seen = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)

    def __init__(self, *args: Any, picture: RewardPicture | None = None, **kwargs: Any) -> None:
        if picture is not None:
            kwargs["initial"] = {"alt": picture.alt}
        super().__init__(*args, **kwargs)
        if picture is not None:
            self.fields["file"].required = False
            self.fields["file"].label = _("Another picture")


class OrderRewardForm(Movement):
    """A reward for a customer, for the price that was on the page."""

    points = forms.IntegerField(min_value=0, widget=forms.HiddenInput)


class MailForm(Movement):
    """The press that has a code mailed."""


class ReasonForm(forms.Form):
    reason = forms.CharField(label=_("Reason"), max_length=300, help_text=_("It stays in the customer's history."))


class SeriesForm(forms.Form):
    """A series of vouchers; with a file, its codes come from it."""

    name = forms.CharField(label=_("Name"), max_length=120)
    worth = forms.ChoiceField(label=_("What one is worth"), choices=VoucherSeries.Worth.choices)
    amount = forms.CharField(label=_("Amount"), max_length=20, required=False, help_text=_("Such as 50 or 12.50."))
    percent = forms.IntegerField(label=_("Per cent"), min_value=1, max_value=100, required=False)
    words = forms.CharField(
        label=_("In words"), max_length=200, required=False, help_text=_("Such as: a free coffee. For everything else.")
    )
    valid_days = forms.IntegerField(
        label=_("Days it is valid"), min_value=1, max_value=36_500, required=False, help_text=_("Empty: without end.")
    )
    ends_on = forms.DateField(
        label=_("Last day of all"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    is_endless = forms.BooleanField(
        label=_("Make a new code for each customer"),
        required=False,
        initial=True,
        help_text=_("Otherwise codes come from a stock that you make or upload."),
    )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        amount = data.pop("amount", "")
        data["amount_minor"] = None
        if data.get("worth") == VoucherSeries.Worth.AMOUNT:
            try:
                data["amount_minor"] = to_minor(amount.replace(",", "."), settings.SHOP_CURRENCY)
            except DomainError as problem:
                self.add_error("amount", problem.message)
        return data


class UploadForm(forms.Form):
    file = forms.FileField(
        label=_("File with codes"),
        help_text=_(
            "CSV: one code per line, or a column headed “code”. A code twice is refused, and nothing is stored."
        ),
    )

    def clean_file(self) -> str:
        given = self.cleaned_data["file"]
        if given.size > BIGGEST_FILE:
            raise forms.ValidationError(_("The file is larger than 8 MB. Cut it into parts."))
        try:
            text: str = given.read().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise forms.ValidationError(_("The file is not text in UTF-8. Save it as CSV with UTF-8.")) from None
        if "\x00" in text:
            raise forms.ValidationError(_("The file is not text in UTF-8. Save it as CSV with UTF-8."))
        return text


class GenerateForm(forms.Form):
    count = forms.IntegerField(label=_("How many codes"), min_value=1, max_value=MOST_CODES, initial=100)


class IssueForm(Movement, FindForm):
    """A code for one customer."""


class UseVoucherForm(Movement):
    """A code is used up at the counter."""

    code = forms.CharField(max_length=64, widget=forms.HiddenInput)
    reference = forms.CharField(
        label=_("Used for"), max_length=120, required=False, help_text=_("Such as the order's number.")
    )
