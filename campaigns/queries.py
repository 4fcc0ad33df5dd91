"""Reads that the page and the endpoint share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.db import connection
from django.db.models import Count, Exists, Min, OuterRef, Q, QuerySet, Subquery, Sum
from django.urls import reverse
from django.utils.translation import gettext_lazy

from campaigns.models import Campaign, Experiment, Journey, JourneyVersion, Message, Outage, Run
from customers.conditions import named_segments
from customers.usage import Use
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import DAY, epoch


def states_of(runs: Iterable[int]) -> dict[int, dict[str, int]]:
    """Messages per state per run id, in one query."""
    answer: dict[int, dict[str, int]] = {}
    rows = (
        Message.objects.filter(run_id__in=list(runs)).values_list("run_id", "state").annotate(n=Count("id")).order_by()
    )
    for run_id, state, n in rows:
        answer.setdefault(run_id, {})[state] = n
    return answer


def campaigns() -> QuerySet[Campaign]:
    return Campaign.objects.select_related("template").order_by("-id")


def messages() -> QuerySet[Message]:
    """Messages, newest first by id, with what a row of a list shows."""
    return Message.objects.select_related("customer", "run__campaign").order_by("-id")


def of_customer(customer_id: int, limit: int = 50) -> QuerySet[Message]:
    """The last messages to a customer, for their page."""
    return messages().filter(customer_id=customer_id)[:limit]


def out_already(run: Run) -> int:
    """Messages of a run that left or may have left."""
    return run.messages.filter(state__in=("sent", "sending", "in_doubt")).count()


def outbox_counts() -> dict[str, Any]:
    """Messages per state over everything."""
    return dict(Message.objects.values_list("state").annotate(n=Count("id")).order_by())


def oldest_due_seconds() -> float | None:
    """How late the oldest due message of a running run is; ``None`` when nothing is due."""
    oldest = Message.objects.filter(
        state__in=("queued", "retry"),
        run__state=Run.State.SENDING,
        run__campaign__state=Campaign.State.ACTIVE,
        due_at__lte=clock.now(),
    ).aggregate(oldest=Min("due_at"))["oldest"]
    return None if oldest is None else (clock.now() - oldest).total_seconds()


DIAL = ("sent", "queued", "retry", "claimed", "sending", "held_out", "skipped", "failed", "in_doubt", "cancelled")
"""States in the order in which people want to read them."""


def sums(states: dict[str, int]) -> list[tuple[str, str, int]]:
    """(state, its name, messages) for the states that occur; they add up to the audience."""
    names = dict(Message.State.choices)
    return [(state, str(names[state]), states[state]) for state in DIAL if states.get(state)]


def states_of_campaigns(campaigns: Iterable[int]) -> dict[int, dict[str, int]]:
    """Messages per state per campaign id, in one query."""
    answer: dict[int, dict[str, int]] = {}
    rows = (
        Message.objects.filter(run__campaign_id__in=list(campaigns))
        .values_list("run__campaign_id", "state")
        .annotate(n=Count("id"))
        .order_by()
    )
    for campaign_id, state, n in rows:
        answer.setdefault(campaign_id, {})[state] = n
    return answer


def visits_of_campaign(campaign: Campaign) -> dict[tuple[str, str], int]:
    """People per ("click" or "open", human / machine / unknown / ""), each counted once in each."""
    rows = batches.rows(
        """
        SELECT CASE WHEN v.link_id IS NULL THEN 'open' ELSE 'click' END AS what, v.kind, count(DISTINCT m.customer_id)
        FROM campaigns_visit v JOIN campaigns_message m ON m.id = v.message_id JOIN campaigns_run r ON r.id = m.run_id
        WHERE r.campaign_id = %s GROUP BY CASE WHEN v.link_id IS NULL THEN 'open' ELSE 'click' END, v.kind
        """,
        [campaign.pk],
    )
    return {(what, kind): n for what, kind, n in rows}


def links_of_campaign(campaign: Campaign) -> list[tuple[str, int]]:
    """(address, people who pressed it), most pressed first; machines are not counted."""
    rows = batches.rows(
        """
        SELECT k.url, count(DISTINCT m.customer_id) AS n FROM campaigns_link k
        JOIN campaigns_visit v ON v.link_id = k.id AND v.kind = 'human' JOIN campaigns_message m ON m.id = v.message_id
        WHERE k.campaign_id = %s GROUP BY k.url ORDER BY n DESC, k.url LIMIT 20
        """,
        [campaign.pk],
    )
    return [(url, n) for url, n in rows]


def orders_after(campaign: Campaign) -> dict[str, int]:
    """What people ordered within the campaign's days of credit after a message of it was sent: ``people``, ``orders``,
    ``revenue_minor`` in the shop's currency. Credited, not caused: the holdout says what was caused. Each order counts once."""
    is_counted = "o.is_counted" if connection.vendor == "postgresql" else "o.is_counted = 1"
    [(people, orders, revenue)] = batches.rows(
        f"""
        SELECT count(DISTINCT x.customer_id), count(*), coalesce(sum(x.base_minor), 0) FROM (
            SELECT DISTINCT o.id, o.customer_id, o.base_minor
            FROM campaigns_run r JOIN campaigns_message m ON m.run_id = r.id AND m.state = 'sent'
            JOIN customers_order o ON o.customer_id = m.customer_id AND o.placed_at >= m.sent_at AND {is_counted}
                 AND {epoch("o.placed_at")} < {epoch("m.sent_at")} + %s
            WHERE r.campaign_id = %s
        ) x
        """,
        [campaign.credit_days * DAY, campaign.pk],
    )
    return {"people": people, "orders": orders, "revenue_minor": int(revenue)}


def parts_of_campaign(campaign: Campaign) -> int:
    """Parts of SMS that left or may have left: what is paid."""
    gone = Message.objects.filter(run__campaign=campaign, state__in=("sent", "sending", "in_doubt"))
    return int(gone.aggregate(n=Sum("parts"))["n"] or 0)


def outages() -> list[Outage]:
    """Channels over which nothing leaves just now, with what was said."""
    return list(Outage.objects.order_by("channel"))


def reasons_of_campaign(campaign: Campaign) -> list[tuple[str, str, int]]:
    """(state, reason, messages) of a campaign where there is a reason, largest first."""
    return list(
        Message.objects.filter(run__campaign=campaign)
        .exclude(reason="")
        .values_list("state", "reason")
        .annotate(n=Count("id"))
        .order_by("-n", "reason")
    )


def to_say_something() -> QuerySet[Campaign]:
    """Campaigns that will still write to somebody: drafts, those that start by themselves, and sends that are not over."""
    over = (Run.State.FINISHED, Run.State.CANCELLED)
    going_on = Run.objects.filter(campaign=OuterRef("pk")).exclude(state__in=over)
    # Chance may still be asked about it: nobody takes its segment or text away meanwhile.
    compared = Experiment.objects.filter(campaign=OuterRef("pk"), state=Experiment.State.RUNNING)
    is_open = Q(state=Campaign.State.DRAFT) | Exists(going_on) | Exists(compared)
    still = ~Q(kind=Campaign.Kind.BROADCAST) | is_open
    return Campaign.objects.filter(still).exclude(state=Campaign.State.ENDED).order_by("-id")


def segments_in_use() -> Iterator[tuple[str, Use]]:
    """Segments in the audience of campaigns, and in whatever a journey asks: its draft, and the version in force."""
    for pk, name, tree in to_say_something().values_list("pk", "name", "audience"):
        use = Use(gettext_lazy("Campaign"), name, reverse("campaigns:detail", args=[pk]))
        yield from ((key, use) for key in sorted(named_segments(tree)))
    in_force = JourneyVersion.objects.filter(journey=OuterRef("pk"), number=OuterRef("version")).values("tree")
    rows = Journey.objects.exclude(state=Journey.State.ENDED).order_by("pk").annotate(tree=Subquery(in_force))
    for pk, name, *trees in rows.values_list("pk", "name", "draft", "exits", "tree"):
        use = Use(gettext_lazy("Journey"), name, reverse("campaigns:journey", args=[pk]))
        yield from ((key, use) for key in sorted(named_segments(trees)))
