"""Forms of referrals: what the friend, and what the staff types."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from loyalty.ledger import MOST_POINTS
from loyalty.models import Programme


class ClaimForm(forms.Form):
    """The friend's address."""

    email = forms.EmailField(
        label=_("Your e-mail"), max_length=254, help_text=_("Use the same one for your order, so that we find you.")
    )


class OfferForm(forms.Form):
    programme = forms.ModelChoiceField(label=_("Programme"), queryset=Programme.objects.none(), empty_label=None)
    advocate_points = forms.IntegerField(label=_("Points for who recommends us"), min_value=0, max_value=MOST_POINTS)
    friend_points = forms.IntegerField(label=_("Points for the friend"), min_value=0, max_value=MOST_POINTS)
    min_order_minor = forms.IntegerField(
        label=_("Smallest first order"),
        min_value=0,
        max_value=10**12,
        help_text=_("In hundredths (minor units) of the shop's currency. 0: any."),
    )
    most_per_month = forms.IntegerField(
        label=_("Friends of one customer in 30 days"),
        min_value=1,
        max_value=10_000,
        help_text=_("More wait for somebody to look at them."),
    )
    is_active = forms.BooleanField(label=_("Offered to customers"), required=False, initial=True)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.fields["programme"].queryset = Programme.earning()  # type: ignore[attr-defined]
