"""What a person fills in about a task for the team."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from campaigns.models import StaffTask
from campaigns.stafftasks import WHY_MAX
from lifecycle_crm.accounts.models import Role, User


def people() -> list[User]:
    """Who may do a task."""
    return [user for user in User.objects.filter(is_active=True).order_by("name", "email") if user.may_serve()]


def choices_of_people() -> list[tuple[str, Any]]:
    """Whom a task can be for, as ``role:support`` or ``person:their address``; empty for the whole team."""
    names = dict(Role.choices)
    return [
        ("", _("Everybody who works with customers")),
        (_("Role"), [(f"role:{role}", names[role]) for role in StaffTask.ROLES]),
        (_("Person"), [(f"person:{user.email}", str(user)) for user in people()]),
    ]


class TaskForm(forms.Form):
    """Base: ``edits`` is the count that the page was made from."""

    edits = forms.IntegerField(min_value=0, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What every form of the page has is no field to fill in.
        self.asked = [self[name] for name in self.fields if name != "edits"]

    def said(self) -> dict[str, Any]:
        """For the verb."""
        return dict(self.cleaned_data)


def _text(label: Any, *, required: bool) -> forms.CharField:
    return forms.CharField(label=label, required=required, max_length=WHY_MAX)


class DoneForm(TaskForm):
    why = _text(gettext_lazy("What came of it"), required=False)


class NotDoneForm(TaskForm):
    why = _text(gettext_lazy("Why not"), required=True)


class PassOnForm(TaskForm):
    whom = forms.ChoiceField(label=gettext_lazy("To"), choices=choices_of_people, required=False)
    why = _text(gettext_lazy("Reason"), required=False)

    def said(self) -> dict[str, Any]:
        given = super().said()
        word, _sep, of = given.pop("whom").partition(":")
        if word == "role":
            return {**given, "role": of}
        return {**given, "assignee": User.objects.filter(email=of).first() if of else None}


class PutOffForm(TaskForm):
    until = forms.DateField(label=gettext_lazy("Until"), widget=forms.DateInput(attrs={"type": "date"}))
    why = _text(gettext_lazy("Reason"), required=False)


FORMS: dict[str, type[TaskForm]] = {
    "done": DoneForm,
    "not-done": NotDoneForm,
    "pass-on": PassOnForm,
    "put-off": PutOffForm,
}
