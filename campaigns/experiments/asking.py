"""Setting an experiment up: what differs, by which measure, and the answer before it starts, how many people it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import ceil

from django.db import transaction
from django.utils.translation import gettext as _

from campaigns import audience, gate, texts
from campaigns.errors import NotNow
from campaigns.experiments import counting, sizes
from campaigns.experiments.counting import Today
from campaigns.models import LABELS, Campaign, Experiment, ExperimentVersion, Template
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock, keys
from lifecycle_crm.lib.errors import DomainError, InvalidInput
from lifecycle_crm.templatetags.crm import num

HOURS_NEED_DAYS = 3
"""With versions at different hours fewer days would count the wait for the hour as part of the time."""
AHEAD = 90
"""So many days of today's pace are "your audience" of a campaign that goes on."""


@dataclass(frozen=True)
class Wanted:
    """A version as it is asked for. Without a ``template`` it says the campaign's own text."""

    share: int
    template: Template | None = None
    hour: int | None = None
    is_general: bool = False


def may_be_asked(campaign: Campaign) -> bool:
    """Whether the campaign will still write to somebody for whom chance could decide."""
    if campaign.kind == Campaign.Kind.BROADCAST:
        return campaign.state == Campaign.State.DRAFT
    return campaign.state != Campaign.State.ENDED


def askable() -> list[Campaign]:
    """Campaigns that can have an experiment now, the newest first."""
    busy = Experiment.objects.filter(state=Experiment.State.RUNNING).values("campaign")
    found = Campaign.objects.exclude(state=Campaign.State.ENDED).exclude(pk__in=busy).select_related("template")
    return [one for one in found.order_by("-id") if may_be_asked(one)]


def create(
    *,
    campaign: Campaign,
    name: str,
    versions: Sequence[Wanted],
    measure: str = Experiment.Measure.CLICK,
    lift_percent: int = 20,
    window_days: int = 7,
    stated_percent: float | None = None,
    actor: User | None = None,
) -> Experiment:
    """A draft: nothing changes for anybody before ``life.start``. ``versions`` are two to four, of which the first, A, is what
    the campaign says today. Raises ``InvalidInput`` or ``NotNow``."""
    name = " ".join(name.split())[:120]
    if not name:
        raise InvalidInput(_("Give the experiment a name; only your team sees it."), code="no_name", field="name")
    if measure not in Experiment.Measure.values:
        raise InvalidInput(_("Choose what is measured: links, orders or revenue."), code="bad_measure", field="measure")
    for field, given, low, high in (("lift_percent", lift_percent, 1, 500), ("window_days", window_days, 1, 60)):
        if not low <= given <= high:
            raise InvalidInput(
                _("%(name)s is a whole number from %(low)d to %(high)d.") % {"name": field, "low": low, "high": high},
                code=f"bad_{field}", field=field,
            )  # fmt: skip
    if stated_percent is not None and not 0 < stated_percent < 100:
        raise InvalidInput(
            _("The share of today is a per cent between 0 and 100."), code="bad_share", field="stated_percent"
        )
    if not 2 <= len(versions) <= len(LABELS):
        raise InvalidInput(_("An experiment compares two to four versions."), code="bad_versions")
    whole = sum(one.share for one in versions)
    if whole != 100 or min(one.share for one in versions) < 1:
        raise InvalidInput(
            _("The shares add up to %(sum)d per cent. Make them 100, each at least 1.") % {"sum": whole},
            code="bad_shares",
        )
    if not may_be_asked(campaign):
        raise _over(campaign)
    with transaction.atomic():
        experiment = Experiment.objects.create(
            key=keys.free(Experiment.objects.all(), name, "experiment"), name=name, campaign=campaign, measure=measure,
            lift_percent=lift_percent, window_days=window_days, stated_percent=stated_percent, created_by=actor,
        )  # fmt: skip
        ExperimentVersion.objects.bulk_create(_as_versions(experiment, versions))
        if (problem := what_is_wrong(experiment)) is not None:
            raise problem
    return experiment


def _as_versions(experiment: Experiment, wanted: Sequence[Wanted]) -> list[ExperimentVersion]:
    campaign = experiment.campaign
    first, *others = wanted
    today = ExperimentVersion(
        experiment=experiment, label=LABELS[0], share=first.share, template=campaign.template,
        hour=campaign.send_hour, is_general=campaign.is_general,
    )  # fmt: skip
    return [
        today,
        *(
            ExperimentVersion(
                experiment=experiment, label=label, share=one.share, template=one.template or campaign.template,
                hour=one.hour, is_general=one.is_general,
            )
            for label, one in zip(LABELS[1:], others, strict=False)
        ),
    ]  # fmt: skip


def _over(campaign: Campaign) -> NotNow:
    if campaign.kind == Campaign.Kind.BROADCAST:
        return NotNow(
            _("“%(name)s” was sent already. An experiment begins before the message is sent.") % {"name": campaign},
            code="sent_already",
        )
    return NotNow(
        _("“%(name)s” has ended, so nobody will get a version of it.") % {"name": campaign}, code="campaign_ended"
    )


def what_is_wrong(experiment: Experiment) -> DomainError | None:
    """What keeps the versions from being compared as they are now, the first thing found."""
    campaign = experiment.campaign
    versions = list(experiment.versions.select_related("template").order_by("label"))
    for number, one in enumerate(versions):
        same = [two for two in versions[:number] if _is_same(one, two)]
        if same:
            return InvalidInput(
                _("%(one)s and %(two)s are the same. Give one of them another text, another hour or no personal values.")
                % {"one": same[0].label, "two": one.label},
                code="same_twice", field=f"template_{one.label.lower()}",
            )  # fmt: skip
        if (problem := _wrong_with(one, campaign)) is not None:
            return problem
    languages = {one.pk: texts.written_in(one.template) for one in versions}
    for code in texts.LANGUAGES:
        speaks = [one for one in versions if code in languages[one.pk]]
        silent = [one for one in versions if code not in languages[one.pk]]
        if speaks and silent:
            return InvalidInput(
                _("%(one)s (“%(text)s”) has no words in %(language)s, and %(two)s has. Write them, so that only the version "
                  "differs.")
                % {"one": silent[0].label, "text": silent[0].template, "two": speaks[0].label,
                   "language": texts.language_name(code)},
                code="no_words", field=f"template_{silent[0].label.lower()}",
            )  # fmt: skip
    if not any(languages.values()):
        return InvalidInput(_("The template %(name)s has no text yet.") % {"name": campaign.template}, code="no_text")
    if len({one.hour for one in versions}) > 1 and experiment.window_days < HOURS_NEED_DAYS:
        return InvalidInput(
            _("Where the hour differs, count at least %(days)d days: some wait most of a day for their hour.")
            % {"days": HOURS_NEED_DAYS},
            code="too_few_days", field="window_days",
        )  # fmt: skip
    return None


def _is_same(one: ExperimentVersion, two: ExperimentVersion) -> bool:
    return (one.template_id, one.hour, one.is_general) == (two.template_id, two.hour, two.is_general)


def _wrong_with(one: ExperimentVersion, campaign: Campaign) -> DomainError | None:
    field = f"template_{one.label.lower()}"
    named = {"version": one.label, "text": one.template}
    if one.template.archived_at is not None:
        return InvalidInput(
            _("%(version)s says “%(text)s”, which is archived. Use it again, or choose another.") % named,
            code="archived", field=field,
        )  # fmt: skip
    if one.template.purpose != campaign.purpose:
        return InvalidInput(
            _("%(version)s says “%(text)s”, which is written for another purpose. People agree to a purpose, so both texts "
              "need the same.") % named,
            code="other_purpose", field=field,
        )  # fmt: skip
    if one.template.channel != campaign.channel:
        return InvalidInput(
            _("%(version)s says “%(text)s”, which is sent another way. Both texts need the same channel.") % named,
            code="other_channel", field=field,
        )  # fmt: skip
    if one.hour is not None and not 0 <= one.hour <= 23:
        return InvalidInput(_("An hour is a number from 0 to 23."), code="bad_hour", field=f"hour_{one.label.lower()}")
    quiet = gate.is_quiet_hour(one.hour, campaign.quiet_from, campaign.quiet_until) if one.hour is not None else False
    if quiet:
        return InvalidInput(
            _("%(version)s would be sent at %(hour)d, in the quiet hours of this campaign. Choose an hour outside them.")
            % {**named, "hour": one.hour},
            code="quiet_hour", field=f"hour_{one.label.lower()}",
        )  # fmt: skip
    return None


# --- The answer before the start --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known before the start.

    ``base`` is as ``Experiment.base``, empty when nothing is known; ``now`` and ``then`` are the measure today and with the
    smallest difference; ``needed`` people per version. ``audience`` is how many people a one-off message would reach,
    ``per_day`` how many a day a campaign that goes on (both of all versions). ``have`` people come to the smallest version: of
    the audience, or in 90 days. ``seen`` is the smallest lift these show, ``None`` when none. ``days`` until the people are
    there. ``problem`` is why it cannot start.
    """

    today: Today
    base: dict[str, float]
    now: float | None
    then: float | None
    needed: int | None
    audience: int | None
    per_day: float | None
    have: int
    seen: float | None
    days: int | None
    problem: DomainError | None

    @property
    def is_too_small(self) -> bool:
        return self.needed is not None and self.have < self.needed


def answer(experiment: Experiment, as_of: datetime | None = None) -> Answer:
    """How many people per version it needs and how long that takes, as things are now. Nothing is written."""
    as_of = as_of or clock.now()
    campaign = experiment.campaign
    versions = list(experiment.versions.order_by("label"))
    today = counting.today(campaign, experiment.window_days, as_of)
    base = _base(experiment, today)
    lift = experiment.lift_percent / 100
    smallest = min(one.share for one in versions) / 100
    people = per_day = None
    if campaign.kind == Campaign.Kind.BROADCAST:
        people = _reached(campaign, as_of)
        have = int(people * smallest)
    else:
        per_day = counting.pace(campaign, as_of)
        have = int(per_day * AHEAD * smallest)
    now = needed = seen = None
    if "share" in base:
        now = base["share"]
        needed = sizes.for_shares(now, lift, len(versions))
        seen = sizes.smallest_share_lift(now, have, len(versions))
    elif base:
        now = base["mean_minor"]
        needed = sizes.for_means(now, base["sd_minor"], lift, len(versions))
        seen = sizes.smallest_mean_lift(now, base["sd_minor"], have, len(versions))
    days = ceil(needed / (per_day * smallest)) if needed and per_day else None
    found = Answer(
        today, base, now, None if now is None else now * (1 + lift), needed, people, per_day, have, seen, days, None
    )
    return replace(found, problem=_cannot_start(experiment, found))


def _base(experiment: Experiment, today: Today) -> dict[str, float]:
    if experiment.is_money:
        enough = today.is_enough and today.mean_minor > 0
        return {"mean_minor": today.mean_minor, "sd_minor": today.sd_minor} if enough else {}
    if experiment.stated_percent is not None:
        return {"share": experiment.stated_percent / 100}
    share = today.clicked if experiment.measure == Experiment.Measure.CLICK else today.ordered
    return {"share": share} if today.is_enough and share > 0 else {}


def _reached(campaign: Campaign, as_of: datetime) -> int:
    """Whom a one-off message would go to now; of a large audience in proportion to those looked at."""
    forecast = audience.forecast(campaign, as_of)
    return forecast.to_send * forecast.audience // forecast.looked_at if forecast.looked_at else 0


def _cannot_start(experiment: Experiment, found: Answer) -> DomainError | None:
    campaign = experiment.campaign
    if not may_be_asked(campaign):
        return _over(campaign)
    others = campaign.experiments.filter(state=Experiment.State.RUNNING).exclude(pk=experiment.pk)
    if (other := others.first()) is not None:
        return NotNow(
            _("“%(name)s” runs on this campaign already. Two at once could not be told apart; end it first.")
            % {"name": other},
            code="another_runs",
        )
    if (problem := what_is_wrong(experiment)) is not None:
        return problem
    if not found.base:
        if experiment.is_money:
            return NotNow(
                _("What people spend today is not known: this takes %(need)s people who got a message of this campaign, and "
                  "there are %(have)s. Measure links or orders first.")
                % {"need": num(counting.ENOUGH), "have": num(found.today.people)},
                code="nothing_measured",
            )  # fmt: skip
        return NotNow(
            _("How many do this today is not known: this takes %(need)s people who got a message of this campaign, and there "
              "are %(have)s. Say yourself what share you expect.")
            % {"need": num(counting.ENOUGH), "have": num(found.today.people)},
            code="nothing_measured",
        )  # fmt: skip
    if found.needed is None:
        return NotNow(
            _("So large a difference cannot be: nothing is done by more than all. Choose a smaller one."),
            code="impossible_difference",
        )
    if found.audience is not None and found.is_too_small:
        return NotNow(
            _("This audience has %(have)s people for the smallest version, and %(need)s are needed. Choose a larger "
              "difference, a larger audience or equal shares.")
            % {"have": num(found.have), "need": num(found.needed)},
            code="too_few_people",
        )  # fmt: skip
    return None
