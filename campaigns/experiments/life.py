"""An experiment's life: start, stop, take one version for everyone, ask again."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from campaigns import letters, texts
from campaigns.errors import NotNow
from campaigns.experiments import asking
from campaigns.experiments.asking import Wanted
from campaigns.models import LABELS, Campaign, Experiment, ExperimentVerdict, ExperimentVersion, TemplateVariant
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput

State = Experiment.State


def start(*, experiment: Experiment, actor: User | None = None) -> Experiment:
    """From now on chance gives whoever the campaign writes to a version. The words of each are frozen, and so is the number
    of people it needs. Raises ``NotNow`` or ``InvalidInput`` with what stands against it."""
    with transaction.atomic():
        campaign = experiment.campaign
        campaign.refresh_from_db()
        # A is what the campaign says today, also when that changed since the draft was made.
        experiment.versions.filter(label=LABELS[0]).update(
            template=campaign.template, hour=campaign.send_hour, is_general=campaign.is_general
        )
        found = asking.answer(experiment)
        if found.problem is not None:
            raise found.problem
        for version in experiment.versions.select_related("template"):
            version.variants = letters.newest_of(version.template)
            version.save(update_fields=["variants"])
        try:
            with transaction.atomic():
                started = Experiment.objects.filter(pk=experiment.pk, state=State.DRAFT).update(
                    state=State.RUNNING, started_at=clock.now(), started_by=actor, base=found.base, needed=found.needed
                )
        except IntegrityError:
            raise NotNow(
                _("Somebody started another experiment on this campaign at the same moment. Reload the page."),
                code="another_runs",
            ) from None
        if started != 1:
            raise NotNow(_("This experiment was started already."))
    experiment.refresh_from_db()
    return experiment


def discard(*, experiment: Experiment) -> None:
    """Forget a draft. Raises ``NotNow`` for one that was started: what chance has given out is kept."""
    with transaction.atomic():
        if Experiment.objects.filter(pk=experiment.pk, state=State.DRAFT).delete()[0] == 0:
            raise NotNow(_("Only a draft can be discarded. Stop the experiment instead."))


def stop(*, experiment: Experiment, actor: User | None = None) -> Experiment:
    """From now on everybody gets what the campaign says. Before the verdict there will be none."""
    _end(experiment, actor, None)
    return experiment


def _end(experiment: Experiment, actor: User | None, chosen: ExperimentVersion | None) -> None:
    ended = Experiment.objects.filter(pk=experiment.pk, state=State.RUNNING).update(
        state=State.ENDED, ended_at=clock.now(), ended_by=actor, chosen=chosen
    )
    if ended != 1:
        raise NotNow(_("Only an experiment that runs can be ended."))
    experiment.refresh_from_db()


def use_for_everyone(*, experiment: Experiment, label: str, actor: User | None = None) -> Experiment:
    """End it, and let the campaign say this version from now on: its words, as they were tested, become the next version of
    the campaign's text in each language; its hour and whether it is personal become the campaign's. Raises ``NotNow``
    before the verdict, when nobody can tell, and for a message that went out once."""
    version = experiment.versions.filter(label=label).select_related("template").first()
    if version is None:
        raise InvalidInput(_("Choose one of the versions."), code="no_version")
    verdict = ExperimentVerdict.objects.filter(experiment=experiment).first()
    if verdict is None:
        raise NotNow(
            _("There is no verdict yet. Wait for it, or stop the experiment; nothing changes then."), code="no_verdict"
        )
    if verdict.kind == ExperimentVerdict.Kind.CANNOT_TELL:
        raise NotNow(
            _("Nobody can tell which version is better, so none is taken. Find out why, and test again."),
            code="cannot_tell",
        )
    campaign = experiment.campaign
    if campaign.kind == Campaign.Kind.BROADCAST:
        raise NotNow(
            _("This message went out once, to everybody it was for. Write the next one with the text of %(version)s.")
            % {"version": label},
            code="went_out_once",
        )
    with transaction.atomic():
        _end(experiment, actor, version)
        if version.template_id != campaign.template_id:
            note = _("Experiment “%(name)s”: version %(version)s") % {"name": experiment, "version": label}
            words = TemplateVariant.objects.in_bulk(version.variants.values())
            for code, pk in sorted(version.variants.items()):
                texts.write(
                    template=campaign.template, language=code, subject=words[pk].subject, blocks=words[pk].blocks,
                    actor=actor, note=note,
                )  # fmt: skip
        Campaign.objects.filter(pk=campaign.pk).update(send_hour=version.hour, is_general=version.is_general)
    return experiment


def ask_again(*, experiment: Experiment, actor: User | None = None) -> Experiment:
    """A new draft with the same versions, for people whom chance divides anew. One that was judged and still runs is ended by
    it. Raises ``NotNow`` before the verdict: whoever adds people after a look is fooled by chance."""
    is_judged = ExperimentVerdict.objects.filter(experiment=experiment).exists()
    if experiment.state != State.ENDED and not is_judged:
        raise NotNow(_("This experiment is not over. End it, then ask again."))
    with transaction.atomic():
        if experiment.state == State.RUNNING:
            _end(experiment, actor, None)
        versions = experiment.versions.select_related("template").order_by("label")
        return asking.create(
            campaign=experiment.campaign,
            name=experiment.name,
            versions=[Wanted(one.share, one.template, one.hour, one.is_general) for one in versions],
            measure=experiment.measure,
            lift_percent=experiment.lift_percent,
            window_days=experiment.window_days,
            stated_percent=experiment.stated_percent,
            actor=actor,
        )
