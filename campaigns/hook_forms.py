"""What an administrator fills in about a webhook."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy


class HookForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=120, help_text=gettext_lazy("Only your team sees it.")
    )
    url = forms.CharField(
        label=gettext_lazy("Address"), max_length=500, help_text=gettext_lazy("Such as https://shop.example/hook.")
    )


class HookChangeForm(HookForm):
    is_active = forms.BooleanField(
        label=gettext_lazy("Is told"), required=False, help_text=gettext_lazy("Switched off, what is to be told waits.")
    )
