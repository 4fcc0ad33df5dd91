"""What a person should do today, as home says it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from campaigns import reactivation, worklist
from feedback import queries as feedback_queries
from lifecycle_crm.accounts.models import User
from lifecycle_crm.dashboard import queries
from lifecycle_crm.dashboard.models import ReportDay
from lifecycle_crm.lib import clock
from lifecycle_crm.templatetags.crm import day, money_round, num
from loyalty import queries as points_queries
from stages import queries as stage_queries
from stages.models import Night, StageKey

DORMANT_DAYS = 7
MOST = 5


@dataclass(frozen=True)
class Line:
    """Something to do: a sentence and where it is done."""

    text: str
    url: str
    kind: str = "info"


def lines(night: Night | None, report: ReportDay, reader: User | None = None) -> list[Line]:
    """At most ``MOST`` lines, the most urgent first; ``reader`` is whose tasks are named."""
    found: list[Line] = []
    missing = stage_queries.missing_nights(night)
    if night and night.state == Night.State.FAILED:
        found.append(
            Line(
                _("The night of %(day)s stopped. Stages may be behind.") % {"day": day(night.business_date)},
                reverse("stages:night", args=[night.business_date.isoformat()]),
                "bad",
            )
        )
    elif missing > 1 or (missing == 1 and night and night.state == Night.State.DONE and _is_overdue()):
        text = ngettext(
            "%(n)d night has not been run, so these numbers are behind.",
            "%(n)d nights have not been run, so these numbers are behind.",
            missing,
        )
        found.append(Line(text % {"n": missing}, reverse("stages:night-list"), "warn"))
    if stopped := points_queries.frozen().count():
        text = ngettext(
            "%(n)s points account does not equal its entries and is frozen.",
            "%(n)s points accounts do not equal their entries and are frozen.",
            stopped,
        )
        found.append(Line(text % {"n": num(stopped)}, reverse("loyalty:frozen"), "bad"))
    for run in reactivation.runs_waiting()[:1]:
        text = _("“%(campaign)s” waits for your word: it would write to more people than usual.")
        found.append(
            Line(text % {"campaign": run.campaign}, reverse("campaigns:detail", args=[run.campaign_id]), "warn")
        )
    cases = feedback_queries.case_counts(clock.now())
    if cases.late or cases.open:
        count, kind = (cases.late, "bad") if cases.late else (cases.open, "info")
        text = (
            ngettext(
                "%(n)s unhappy customer has waited too long for an answer.",
                "%(n)s unhappy customers have waited too long for an answer.",
                count,
            )
            if cases.late
            else ngettext(
                "%(n)s unhappy customer waits for an answer.", "%(n)s unhappy customers wait for an answer.", count
            )
        )
        found.append(Line(text % {"n": num(count)}, reverse("feedback:overview"), kind))
    if reader is not None and reader.may_serve() and (tasks := worklist.waiting(reader)).due:
        text = (
            ngettext("%(n)s task of yours is overdue.", "%(n)s tasks of yours are overdue.", tasks.late)
            if tasks.late
            else ngettext("%(n)s task waits for you today.", "%(n)s tasks wait for you today.", tasks.due)
        )
        count, kind = (tasks.late, "warn") if tasks.late else (tasks.due, "info")
        found.append(Line(text % {"n": num(count)}, reverse("campaigns:tasks"), kind))
    since = report.business_date - timedelta(days=DORMANT_DAYS - 1)
    gone, worth = stage_queries.worth_of_entered(StageKey.DORMANT, since, report.business_date)
    if gone:
        text = ngettext(
            "%(n)s customer went dormant this week. They have spent %(worth)s with us.",
            "%(n)s customers went dormant this week. Together they have spent %(worth)s with us.",
            gone,
        )
        url = stage_queries.people_url(
            stage="dormant", moved_to="dormant", moved_since=since, moved_until=report.business_date, sort="-spend"
        )
        found.append(Line(text % {"n": num(gone), "worth": money_round(worth, settings.SHOP_CURRENCY)}, url))
    run_of_import = queries.troubled_import(clock.today() - timedelta(days=7))
    if run_of_import:
        name = {"file": run_of_import.file_name, "n": num(run_of_import.refused)}
        text = (
            _("The import of %(file)s failed.")
            if run_of_import.state == run_of_import.State.FAILED
            else ngettext(
                "The import of %(file)s refused %(n)s row.",
                "The import of %(file)s refused %(n)s rows.",
                run_of_import.refused,
            )
        )
        found.append(Line(text % name, reverse("customers:import-detail", args=[run_of_import.pk]), "warn"))
    if report.points_expiring:
        text = ngettext(
            "%(n)s point expires in the next 30 days.",
            "%(n)s points expire in the next 30 days.",
            report.points_expiring,
        )
        found.append(Line(text % {"n": num(report.points_expiring)}, reverse("loyalty:overview")))
    return found[:MOST]


def _is_overdue() -> bool:
    """Yesterday's night is late only once its hour has passed by a while."""
    return clock.now().astimezone(clock.zone()).hour >= settings.NIGHT_HOUR + 2
