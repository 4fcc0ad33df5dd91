from __future__ import annotations

import json
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from lifecycle_crm.lib.errors import DomainError
from stages import rules as rulebook


class RulesForm(forms.Form):
    """A draft's name, note and rules. What is wrong with the rules is said in one sentence, where and how to mend it."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=80)
    note = forms.CharField(
        label=gettext_lazy("Note"),
        required=False,
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=gettext_lazy("What changed, and why."),
    )
    rules = forms.CharField(
        label=gettext_lazy("Rules"),
        widget=forms.Textarea(attrs={"rows": 24, "spellcheck": "false", "class": "code", "autocomplete": "off"}),
        help_text=gettext_lazy(
            "A JSON list, in order: the first rule whose condition holds decides. The last one must catch everybody."
        ),
    )

    def clean_rules(self) -> Any:
        try:
            data = json.loads(self.cleaned_data["rules"])
        except json.JSONDecodeError as problem:
            raise forms.ValidationError(
                _("Line %(line)d, column %(column)d cannot be read as JSON: %(problem)s.")
                % {"line": problem.lineno, "column": problem.colno, "problem": problem.msg}
            ) from problem
        try:
            rulebook.parse(data)
        except DomainError as problem:
            raise forms.ValidationError(problem.message) from problem
        return data
