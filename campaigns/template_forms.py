"""Forms of the template editor: what a person types, as the verbs take it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from campaigns import blocks, parts, texting
from campaigns.blocks import KINDS, OPS, SUBJECT, WORDS, Block
from campaigns.errors import BrokenTemplate
from campaigns.models import Channel, Purpose
from campaigns.texts import LANGUAGES, language_name
from campaigns.vocabulary import IN_THE_MENU, OF_THE_CUSTOMER, VALUES

LIQUID_MOST = 20_000


def _menu() -> list[tuple[str, Any]]:
    return [("", _("Choose a value")), *((path, VALUES[path].label) for path in IN_THE_MENU)]


class _Menu(forms.Select):
    """The values, each saying whether something must stand in for it."""

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option: dict[str, Any] = super().create_option(name, value, *args, **kwargs)
        if (known := VALUES.get(str(value))) and known.needs_fallback:
            option["attrs"]["data-needs"] = "1"
        return option


class TemplateForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=120, help_text=_("Only your team sees it."))
    purpose = forms.ChoiceField(
        label=_("Why we write"),
        choices=Purpose.choices,
        help_text=_("Offers and questions go only to those who agreed to them. It cannot be changed later."),
    )
    channel = forms.ChoiceField(
        label=_("How it is sent"),
        choices=Channel.choices,
        initial=Channel.EMAIL,
        widget=forms.RadioSelect,
        help_text=_("A campaign is sent the way its text is. It cannot be changed later."),
    )
    language = forms.ChoiceField(label=_("Language to begin with"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["language"].choices = [(code, capfirst(language_name(code))) for code in LANGUAGES]  # type: ignore[attr-defined]


class _Inserting(forms.Form):
    """Texts with a menu of values beside them."""

    insert_value = forms.ChoiceField(label=_("Insert a value"), required=False, widget=_Menu)
    insert_fallback = forms.CharField(
        label=_("For people without one"),
        required=False,
        max_length=80,
        help_text=_("Stands there instead, such as “friend”."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["insert_value"].choices = _menu()  # type: ignore[attr-defined]

    @property
    def menu(self) -> list[forms.BoundField]:
        return [self["insert_value"], self["insert_fallback"]]

    @property
    def chosen(self) -> dict[str, Any]:
        """What was typed, checked or not."""
        return {name: self.data.get(self.add_prefix(name), "") for name in self.fields}

    def inserted(self, into: str) -> dict[str, Any]:
        """What was typed, with the chosen value at the end of field ``into``. Raises ``BrokenTemplate``."""
        typed = self.chosen
        piece = blocks.variable(typed["insert_value"], typed["insert_fallback"])
        text = typed[into]
        gap = "" if not text or text.endswith((" ", "\n")) else " "
        return {**typed, into: f"{text}{gap}{piece}", "insert_value": "", "insert_fallback": ""}


class SubjectForm(_Inserting):
    subject = forms.CharField(label=_("Subject"), max_length=200)

    field_order = ("subject", "insert_value", "insert_fallback")
    place = SUBJECT
    verb = "subject"

    @property
    def main(self) -> list[forms.BoundField]:
        return [self["subject"]]

    @property
    def first(self) -> str:
        return "subject"


class SmsForm(_Inserting):
    """The one text of an SMS. The page counts its parts while it is typed, with the same alphabet as the server."""

    text = forms.CharField(
        label=_("Text"),
        max_length=texting.SOURCE_LIMIT,
        strip=False,
        help_text=_("Plain words. Web addresses become short links, and how to stop is put at the end by itself."),
        widget=forms.Textarea(
            attrs={
                "rows": 6, "data-parts": "sms-parts", "data-basic": "".join(sorted(parts.BASIC)),
                "data-extension": "".join(sorted(parts.EXTENSION)),
            }
        ),
    )  # fmt: skip

    field_order = ("text", "insert_value", "insert_fallback")
    place = WORDS
    verb = "words"

    @property
    def main(self) -> list[forms.BoundField]:
        return [self["text"]]

    @property
    def first(self) -> str:
        return "text"

    def words(self) -> list[Block]:
        """As it is stored. Raises ``BrokenTemplate``."""
        blocks_of = texting.stored(self.cleaned_data["text"])
        return texting.stored(texting.read(subject="", blocks=blocks_of))


class BlockForm(_Inserting):
    """The fields of one kind of block, and when it is shown."""

    verb = "block"

    when_value = forms.ChoiceField(label=_("Shown"), required=False)
    when_op = forms.ChoiceField(label=_("Comparison"), required=False)
    when_than = forms.CharField(label=_("Compared with"), required=False, max_length=80)

    def __init__(self, *args: Any, kind: str, block: Block | None = None, **kwargs: Any) -> None:
        self.kind = KINDS[kind]
        when = (block or {}).get("when") or {}
        initial = {
            **{name: text for name, text in (block or {}).items() if isinstance(text, str)},
            **{f"when_{name}": value for name, value in when.items()},
        }
        super().__init__(*args, initial=initial, **kwargs)
        for field in self.kind.fields:
            widget = forms.Textarea(attrs={"rows": 6}) if field.form == "lines" else forms.TextInput()
            if field.form == "url":
                widget.attrs |= {"inputmode": "url", "spellcheck": "false"}
            self.fields[field.name] = forms.CharField(
                label=field.label, required=field.is_required, help_text=field.help, widget=widget, strip=False,
                max_length=LIQUID_MOST,
            )  # fmt: skip
        asked = [(path, _("Only if: %(value)s") % {"value": VALUES[path].label}) for path in OF_THE_CUSTOMER]
        self.fields["when_value"].choices = [("", _("Always")), *asked]  # type: ignore[attr-defined]
        self.fields["when_op"].choices = [(name, words) for name, (words, _kind) in OPS.items()]  # type: ignore[attr-defined]

    @property
    def main(self) -> list[forms.BoundField]:
        return [self[field.name] for field in self.kind.fields]

    @property
    def when(self) -> list[forms.BoundField]:
        return [self["when_value"], self["when_op"], self["when_than"]]

    @property
    def first(self) -> str:
        """The field that a value goes into."""
        return next((field.name for field in self.kind.fields if field.form != "url"), "")

    def block(self) -> Block:
        """The block as it is stored. Raises ``BrokenTemplate``, naming the field."""
        values = self.cleaned_data
        when = None
        if values["when_value"]:
            when = {"value": values["when_value"], "op": values["when_op"], "than": values["when_than"]}
        texts = {field.name: values.get(field.name, "") for field in self.kind.fields}
        return blocks.read_one({"type": self.kind.name, **texts, "when": when}, 0)

    def complain(self, problem: BrokenTemplate) -> None:
        """Put a refusal beside the field it names."""
        name = str(problem.extra.get("field", ""))
        name = {"when": "when_value", "value": "insert_value", "fallback": "insert_fallback"}.get(name, name)
        self.add_error(name if name in self.fields else None, problem.message)
