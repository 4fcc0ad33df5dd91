"""Templates and their words: made, copied, renamed, archived; written as a draft, saved as the next version.

A version is never edited and a template never deleted. What is being written lies in a draft, which goes to nobody; saving
it makes the next version, and what is planned from then on says the new words. What was planned before keeps the old ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max, QuerySet
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from campaigns import letters, queries, rendering, texting
from campaigns.blocks import MOST, SUBJECT, Block, read
from campaigns.blocks import texts as written
from campaigns.errors import BrokenTemplate, NotNow
from campaigns.models import (
    Campaign,
    Channel,
    Experiment,
    ExperimentVersion,
    Purpose,
    Template,
    TemplateDraft,
    TemplateVariant,
)
from campaigns.rendering import one_line
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock, keys
from lifecycle_crm.lib.errors import Conflict, InvalidInput, NotFound

LANGUAGES: tuple[str, ...] = tuple(code for code, _name in settings.LANGUAGES)
KEPT = 200
"""Versions shown of one language; all are kept."""


class UnknownTemplate(NotFound):
    code = "unknown_template"


class ChangedMeanwhile(Conflict):
    """Somebody else saved the same words since they were read."""

    code = "changed_meanwhile"


def get(key: str) -> Template:
    """The template of this key. Raises ``UnknownTemplate``."""
    template = Template.objects.filter(key=key).first()
    if template is None:
        raise UnknownTemplate(_("There is no template “%(key)s”. Choose one of the list of templates.") % {"key": key})
    return template


def label(template: Template) -> str:
    """As a list to choose from says it: with the way it is sent."""
    return f"{template.name} · {template.get_channel_display()}"


def language(code: str) -> str:
    """One of the languages we write in. Raises ``UnknownTemplate``."""
    if code not in LANGUAGES:
        raise UnknownTemplate(_("We do not write in “%(code)s”. Choose one of the languages.") % {"code": code})
    return code


def language_name(code: str) -> str:
    """The language in the words of the reader: "Polish"."""
    names = {"en": _("English"), "sv": _("Swedish"), "nb": _("Norwegian"), "pl": _("Polish"), "cs": _("Czech")}
    return names.get(code, code)


# --- Reads ------------------------------------------------------------------------------------------------------------


@dataclass
class Line:
    """A template as a row of the list. ``languages`` are (code, has words); ``drafts`` the languages being written."""

    template: Template
    languages: list[tuple[str, bool]] = field(default_factory=list)
    drafts: list[str] = field(default_factory=list)
    used_in: list[Campaign] = field(default_factory=list)
    edited_at: datetime | None = None
    edited_by: User | None = None

    @property
    def missing(self) -> list[str]:
        return [code for code, has_words in self.languages if not has_words]


def listed(*, archived: bool = False) -> list[Line]:
    """Every template with what a row shows, in a fixed number of queries."""
    lines = {
        one.pk: Line(one, [(code, False) for code in LANGUAGES])
        for one in Template.objects.filter(archived_at__isnull=not archived).order_by("name", "pk")
    }
    versions = TemplateVariant.objects.filter(template__in=lines).order_by("pk").defer("blocks", "subject")
    for version in versions.select_related("created_by"):
        line = lines[version.template_id]
        line.languages = [(code, has or code == version.language) for code, has in line.languages]
        line.edited_at, line.edited_by = version.created_at, version.created_by
    for draft in TemplateDraft.objects.filter(template__in=lines).select_related("edited_by").defer("blocks", "before"):
        line = lines[draft.template_id]
        line.drafts.append(draft.language)
        if line.edited_at is None or draft.edited_at > line.edited_at:
            line.edited_at, line.edited_by = draft.edited_at, draft.edited_by
    for pk, campaigns in used_in(lines).items():
        lines[pk].used_in = campaigns
    return list(lines.values())


def choosable() -> QuerySet[Template]:
    """Templates a new message can be made of: with words, and not archived."""
    return Template.objects.filter(archived_at=None, variants__isnull=False).distinct()


def newest(template: Template, code: str) -> TemplateVariant | None:
    """The version that new sends say, in exactly this language."""
    found = template.variants.filter(language=code).select_related("created_by", "template").order_by("-version")
    return found.first()


def versions(template: Template, code: str) -> list[TemplateVariant]:
    """The newest first."""
    found = template.variants.filter(language=code).select_related("created_by", "template").order_by("-version")
    return list(found[:KEPT])


def numbered(template: Template, code: str, version: int) -> TemplateVariant:
    """One version of one language. Raises ``UnknownTemplate``."""
    found = template.variants.filter(language=code, version=version).select_related("template").first()
    if found is None:
        raise UnknownTemplate(_("There is no version %(version)d in this language.") % {"version": version})
    return found


def written_in(template: Template) -> list[str]:
    """Languages that have words, in our order."""
    found = set(template.variants.values_list("language", flat=True))
    return [code for code in LANGUAGES if code in found]


def falls_back_to(template: Template, code: str) -> str:
    """Which language people who speak ``code`` get; "" when nothing is written yet. The order is that of sending."""
    texts = {one: number for number, one in enumerate(sorted(written_in(template)))}
    chosen = letters.variant_for(texts, code)
    return next((one for one, number in texts.items() if number == chosen), "")


def used_in(templates: Iterable[int]) -> dict[int, list[Campaign]]:
    """Of each template (by id) the campaigns that are to say it still, the newest first: drafts, win-backs, and sends
    that are not over; and campaigns of which an experiment compares it, or is to."""
    found: dict[int, list[Campaign]] = {pk: [] for pk in templates}
    for campaign in queries.to_say_something().filter(template__in=found):
        found[campaign.template_id].append(campaign)
    compared = ExperimentVersion.objects.filter(template__in=found).exclude(experiment__state=Experiment.State.ENDED)
    for version in compared.select_related("experiment__campaign").order_by("-experiment_id"):
        if version.experiment.campaign not in found[version.template_id]:
            found[version.template_id].append(version.experiment.campaign)
    return found


def in_use(template: Template) -> list[Campaign]:
    """The same of one."""
    return used_in([template.pk])[template.pk]


# --- Templates --------------------------------------------------------------------------------------------------------


def _name(name: str) -> str:
    name = one_line(name)[:120]
    if not name:
        raise InvalidInput(_("Give the template a name; only your team sees it."), code="no_name", field="name")
    return name


def create(*, name: str, purpose: str = Purpose.MARKETING, channel: str = Channel.EMAIL, key: str = "") -> Template:
    """A template without words. Raises ``InvalidInput``, or ``Conflict`` when the key is taken."""
    name = _name(name)
    if purpose not in Purpose.values:
        raise InvalidInput(_("Choose why we write: offers, a service notice or a question."), field="purpose")
    _channel(channel)
    if key and (slugify(key) != key or len(key) > 60):
        raise InvalidInput(_("A key is small letters, digits and hyphens, at most 60."), field="key")
    try:
        with transaction.atomic():
            free = key or keys.free(Template.objects.all(), name, "template")
            return Template.objects.create(key=free, name=name, purpose=purpose, channel=channel)
    except IntegrityError:
        raise Conflict(_("There is a template with this key already. Choose another.")) from None


def _channel(channel: str) -> None:
    if channel not in Channel.values:
        raise InvalidInput(_("Choose how it is sent: by e-mail or by SMS."), field="channel")


def change_channel(*, template: Template, channel: str) -> Template:
    """Send it another way. Raises ``NotNow`` once there are words, which are made for their channel."""
    _channel(channel)
    if channel != template.channel:
        if Template.objects.filter(pk=template.pk, variants=None, drafts=None).update(channel=channel) != 1:
            raise NotNow(
                _("“%(name)s” has words already, and they are made for its channel. Make another template.")
                % {"name": template.name},
                code="has_words",
                field="channel",
            )
        template.refresh_from_db()
    return template


def copy(*, template: Template, name: str, actor: User | None = None) -> Template:
    """Another template with the newest words of every language as its first versions."""
    with transaction.atomic():
        made = create(name=name, purpose=template.purpose, channel=template.channel)
        for code in written_in(template):
            if (text := newest(template, code)) is not None:
                write(template=made, language=code, subject=text.subject, blocks=text.blocks, actor=actor,
                      note=_("Copied from %(name)s") % {"name": template.name})  # fmt: skip
    return made


def rename(*, template: Template, name: str) -> Template:
    """Another name for the team. Its key stays."""
    template.name = _name(name)
    template.save(update_fields=["name"])
    return template


def archive(*, template: Template) -> Template:
    """Nobody can choose it for something new. Nothing is deleted. Raises ``NotNow``, naming the campaigns that
    are to say it still."""
    with transaction.atomic():
        if used := in_use(template):
            names = ", ".join(one.name for one in used[:3])
            sentence = ngettext(
                "%(names)s still says it. End that first, or give it another text.",
                "%(names)s and others still say it. End those first, or give them another text.",
                1 if len(used) <= 3 else len(used),
            )
            raise NotNow(sentence % {"names": names}, code="in_use", campaigns=[one.pk for one in used])
        Template.objects.filter(pk=template.pk, archived_at=None).update(archived_at=clock.now())
    template.refresh_from_db()
    return template


def bring_back(*, template: Template) -> Template:
    """Undo ``archive``."""
    Template.objects.filter(pk=template.pk).update(archived_at=None)
    template.refresh_from_db()
    return template


# --- Versions ---------------------------------------------------------------------------------------------------------


def write(
    *,
    template: Template,
    language: str,
    subject: str,
    blocks: Any,
    actor: User | None = None,
    note: str = "",
    base: int | None = None,
) -> TemplateVariant:
    """The next version of the words in one language. With ``base`` it is refused (``ChangedMeanwhile``) when another
    version was saved since that one was read. Raises ``BrokenTemplate`` for what cannot be made into a message."""
    checked = complete(template=template, language=language, subject=subject, blocks=blocks)
    last = template.variants.filter(language=language).aggregate(last=Max("version"))["last"] or 0
    if base is not None and base != last:
        raise ChangedMeanwhile(
            _("Version %(last)d was saved since you read version %(base)d. Look at it, then save again.")
            % {"last": last, "base": base}
        )
    try:
        with transaction.atomic():
            return TemplateVariant.objects.create(
                template=template, language=language, version=last + 1, subject=one_line(subject), blocks=checked,
                note=one_line(note)[:200], created_by=actor,
            )  # fmt: skip
    except IntegrityError:
        raise ChangedMeanwhile(_("Somebody saved a version at the same moment. Look at it, then save again.")) from None


def complete(*, template: Template, language: str, subject: str, blocks: Any) -> list[Block]:
    """The blocks as they are stored, of a text that can be sent. Raises ``BrokenTemplate``."""
    if language not in LANGUAGES:
        raise InvalidInput(_("We do not write in “%(code)s”. Choose one of the languages.") % {"code": language})
    if template.channel == Channel.SMS:
        return _complete_sms(template, language, subject, blocks)
    if not one_line(subject):
        raise BrokenTemplate(_("Write a subject."), block=SUBJECT, field="subject")
    if len(one_line(subject)) > 200:
        raise BrokenTemplate(_("A subject has at most 200 characters."), block=SUBJECT, field="subject")
    checked = read(blocks)
    if len(checked) > MOST:
        raise BrokenTemplate(_("A text has at most %(most)d blocks.") % {"most": MOST})
    rendering.Prepared(language=language, subject=one_line(subject), blocks=checked, has_foot=True)
    rendering.strict(subject, where=_("The subject"), block=SUBJECT)
    for place, block in enumerate(checked):
        for _field, text in written(block):
            rendering.strict(text, where=_("Block %(number)d") % {"number": place + 1}, block=place)
    return checked


def _complete_sms(template: Template, language: str, subject: str, blocks: Any) -> list[Block]:
    words = texting.read(subject=subject, blocks=blocks)
    rendering.strict(words, where=_("The text"), block=0)
    made = texting.Prepared(
        language=language, subject="", blocks=blocks, has_foot=letters.has_way_out(template.purpose)
    )
    if "{" not in words:
        # The same for everybody, so it can be told now.
        made.make(letters.sms_example(language))
    return texting.stored(words)


def go_back(*, variant: TemplateVariant, actor: User | None = None) -> TemplateVariant:
    """The words of an earlier version as the newest one. A draft in this language stays as it is."""
    return write(
        template=variant.template, language=variant.language, subject=variant.subject, blocks=variant.blocks,
        actor=actor, note=_("Back to version %(version)d") % {"version": variant.version},
    )  # fmt: skip


# --- Drafts -----------------------------------------------------------------------------------------------------------


@dataclass
class Text:
    """The words of one language as they are being written: the draft if there is one, else the newest version.
    ``revision`` is 0 and ``base`` the version when there is no draft."""

    template: Template
    language: str
    subject: str
    blocks: list[Block]
    revision: int
    base: int
    draft: TemplateDraft | None
    variant: TemplateVariant | None

    def variant_like(self) -> TemplateVariant:
        """As a version that is not stored, for who renders versions."""
        return TemplateVariant(
            template=self.template, language=self.language, version=self.base, subject=self.subject, blocks=self.blocks
        )


def current(template: Template, code: str) -> Text:
    """What a person edits."""
    variant = newest(template, code)
    draft = TemplateDraft.objects.filter(template=template, language=code).select_related("edited_by").first()
    if draft is not None:
        return Text(template, code, draft.subject, draft.blocks, draft.revision, draft.base, draft, variant)
    if variant is not None:
        return Text(template, code, variant.subject, variant.blocks, 0, variant.version, None, variant)
    return Text(template, code, "", [], 0, 0, None, None)


def _late() -> ChangedMeanwhile:
    return ChangedMeanwhile(
        _("Somebody else changed these words since you opened them. Look at them again, then repeat your change.")
    )


def change(
    *,
    template: Template,
    language: str,
    revision: int,
    subject: str | None = None,
    blocks: Sequence[Mapping[str, Any]] | None = None,
    actor: User | None = None,
) -> TemplateDraft:
    """Write the draft on. ``revision`` is the one that was read (0: there was none). Blocks are taken as ``blocks`` of
    ``campaigns.blocks`` made them. Raises ``ChangedMeanwhile`` and leaves the draft as the other one wrote it."""
    text = current(template, language)
    values = {
        "subject": text.subject if subject is None else one_line(subject)[:200],
        "blocks": text.blocks if blocks is None else list(blocks),
        "before": {"subject": text.subject, "blocks": text.blocks},
        "edited_by": actor,
        "edited_at": clock.now(),
    }
    if text.draft is None:
        if revision != 0:
            raise _late()
        try:
            with transaction.atomic():
                return TemplateDraft.objects.create(template=template, language=language, base=text.base, **values)
        except IntegrityError:
            raise _late() from None
    _step(text.draft, revision, values)
    return text.draft


def _step(draft: TemplateDraft, revision: int, values: Mapping[str, Any]) -> None:
    mine = TemplateDraft.objects.filter(pk=draft.pk, revision=revision)
    if mine.update(**values, revision=revision + 1) != 1:
        raise _late()
    draft.refresh_from_db()


def undo(*, draft: TemplateDraft, revision: int, actor: User | None = None) -> TemplateDraft:
    """Take the last change back; a second time does it again."""
    if draft.before is None:
        raise NotNow(_("There is nothing to take back."))
    now = {"subject": draft.subject, "blocks": draft.blocks}
    _step(draft, revision, {**draft.before, "before": now, "edited_by": actor, "edited_at": clock.now()})
    return draft


def discard(*, draft: TemplateDraft, revision: int) -> None:
    """Forget what was not saved."""
    if TemplateDraft.objects.filter(pk=draft.pk, revision=revision).delete()[0] != 1:
        raise _late()


def carry_over(*, draft: TemplateDraft, revision: int, actor: User | None = None) -> TemplateDraft:
    """Another version was saved since the draft was begun, and a person looked at it: the draft may be saved on top."""
    last = newest(draft.template, draft.language)
    _step(draft, revision, {"base": last.version if last else 0, "edited_by": actor, "edited_at": clock.now()})
    return draft


def save(*, draft: TemplateDraft, revision: int, note: str = "", actor: User | None = None) -> TemplateVariant:
    """Make the draft the next version. Raises ``BrokenTemplate``, and ``ChangedMeanwhile`` when the draft moved on or
    another version was saved since it was begun; then nothing is written."""
    with transaction.atomic():
        if TemplateDraft.objects.filter(pk=draft.pk, revision=revision).delete()[0] != 1:
            raise _late()
        return write(
            template=draft.template, language=draft.language, subject=draft.subject, blocks=draft.blocks, actor=actor,
            note=note, base=draft.base,
        )  # fmt: skip


def start_from(
    *, template: Template, language: str, other: str, revision: int, actor: User | None = None
) -> TemplateDraft:
    """Begin a language with the words of another, to be translated."""
    text = newest(template, other)
    if text is None:
        raise NotNow(_("There are no words in that language to start from."))
    return change(
        template=template, language=language, revision=revision, subject=text.subject, blocks=text.blocks, actor=actor
    )
