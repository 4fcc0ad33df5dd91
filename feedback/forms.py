from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from customers.forms import CustomerField
from feedback import queries
from feedback.cases import TEXT_MAX
from feedback.models import Case, Invitation, Survey
from feedback.surveys import COMMENT_MAX
from lifecycle_crm.accounts.models import User


class LinkForm(forms.Form):
    """A survey link for one customer."""

    customer = CustomerField()
    survey = forms.ModelChoiceField(label=_("Survey"), queryset=Survey.objects.none(), empty_label=None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["survey"].queryset = queries.active_surveys()  # type: ignore[attr-defined]


class AnswerForm(forms.Form):
    """The public page. Score and comment are checked by the verb; here they are only read."""

    score = forms.TypedChoiceField(coerce=int)
    comment = forms.CharField(
        required=False, max_length=COMMENT_MAX, widget=forms.Textarea(attrs={"rows": 4, "maxlength": COMMENT_MAX})
    )

    def __init__(self, *args: Any, invitation: Invitation, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        low, high = invitation.survey.scale
        self.fields["score"].choices = [(n, str(n)) for n in range(low, high + 1)]  # type: ignore[attr-defined]
        self.fields["score"].error_messages = dict.fromkeys(
            ("required", "invalid_choice", "invalid"),
            _("Choose a score from %(low)d to %(high)d.") % {"low": low, "high": high},
        )
        self.fields["comment"].label = invitation.survey.text("comment")

    @property
    def chosen(self) -> str:
        """The score that is marked when the page opens."""
        value = self["score"].value()
        return "" if value is None else str(value)


def _text(label: Any, *, required: bool = True, help_text: Any = "") -> forms.CharField:
    return forms.CharField(
        label=label,
        required=required,
        help_text=help_text,
        max_length=TEXT_MAX,
        widget=forms.Textarea(attrs={"rows": 3}),
    )


class CaseAnswerForm(forms.Form):
    text = _text(_("What we answered"), help_text=_("What you wrote or said to the customer. This page sends nothing."))


class CaseNoteForm(forms.Form):
    text = _text(_("Note"), help_text=_("Only people who work here read it."))


class CaseAssignForm(forms.Form):
    assignee = forms.ModelChoiceField(
        label=_("Assigned to"), queryset=User.objects.none(), required=False, empty_label=_("Nobody")
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["assignee"].queryset = User.objects.filter(is_active=True).order_by("name", "email")  # type: ignore[attr-defined]


class CaseCloseForm(forms.Form):
    outcome = forms.ChoiceField(label=_("Outcome"), choices=[("", _("Choose")), *Case.Outcome.choices])
    text = _text(_("What happened"), required=False)
