"""Everything a night writes, as values that two runs can be compared by: no row numbers of ours, no clock of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.color import no_style
from django.db import connection, models, transaction

from campaigns.models import Campaign, ExperimentDay, ExperimentVerdict, Journey, JourneyRun, Message, Run
from customers.models import (
    Consent,
    Customer,
    CustomerFacts,
    DirtyCustomer,
    Event,
    Order,
    OrderLine,
    Refund,
    RfmChange,
    RfmCuts,
    RfmDay,
    Segment,
    SegmentChange,
    SegmentDay,
    SegmentMember,
    SegmentStanding,
    SegmentVersion,
)
from feedback.models import Answer, Case, CaseNote, Invitation, Response
from lifecycle_crm.dashboard.models import (
    ArrivalDay,
    CohortDay,
    FlowDay,
    FlowPeriod,
    LateDay,
    ReportDay,
    RetentionDay,
    StageDay,
    StayDay,
    TradeDay,
)
from lifecycle_crm.lib import batches
from lifecycle_crm.lib.models import Note, SetAside
from loyalty.models import (
    Account,
    Entry,
    Freeze,
    Hold,
    Lot,
    LotSpend,
    Membership,
    Posting,
    Proof,
    Redemption,
    RedemptionStep,
    Referral,
    ReferralCode,
    Reward,
    RewardUse,
    RuleUse,
    TierChange,
    TierStanding,
    Transfer,
    Voucher,
)
from stages.models import Chunk, Night, Pin, RuleSet, StageTransition

TABLES: dict[str, tuple[type[models.Model], str]] = {
    # What was told, and what a refund made of it.
    "orders": (
        Order,
        "source source_id customer__email_key placed_at status currency amount_minor refunded_minor rate base_minor items "
        "is_counted is_history",
    ),
    "order lines": (OrderLine, "order__source_id title quantity unit_minor discount_minor product__sku"),
    "refunds": (
        Refund,
        "source source_id order__source_id occurred_at amount_minor base_minor is_cancellation is_history",
    ),
    "events": (Event, "source source_id customer__email_key name occurred_at is_history properties"),
    "consents": (Consent, "customer__email_key purpose channel is_granted wording source occurred_at language ip"),
    # What is known of a customer.
    "facts": (
        CustomerFacts,
        "customer__email_key orders first_order_at last_order_at spend_minor gap_seconds engaged_at may_email recency "
        "frequency monetary rfm_group points tier nps_score answered_at open_cases clicked_at stage stage_since "
        "next_review_at is_quiet",
    ),
    "moves": (
        StageTransition,
        "customer__email_key id night__business_date from_stage to_stage kind occurred_at business_date "
        "rule_set__version rule evidence user__email reason undoes__business_date is_quiet",
    ),
    "pins": (Pin, "customer__email_key stage until reason user__email"),
    "rule sets": (RuleSet, "version name state rules note base__version mode created_by__email published_by__email"),
    # Segments and RFM groups.
    "segments": (Segment, "key name kind condition version note members is_exact"),
    "segment versions": (SegmentVersion, "segment__key number condition created_by__email"),
    "listed": (SegmentMember, "segment__key customer__email_key added_by__email"),
    "membership": (SegmentStanding, "segment__key customer__email_key"),
    "segment changes": (SegmentChange, "segment__key customer__email_key kind business_date"),
    "segment days": (SegmentDay, "segment__key business_date version members entered left is_first"),
    "rfm cuts": (RfmCuts, "computed_on recency_days frequency monetary_minor buyers"),
    "rfm days": (RfmDay, "business_date group customers revenue_minor"),
    "rfm changes": (RfmChange, "customer__email_key id from_group to_group business_date"),
    # Points, tiers, rewards.
    "accounts": (
        Account,
        "programme__key customer__email_key balance pending held debt earned adjusted spent expired reversed moved frozen_at",
    ),
    "entries": (
        Entry,
        "programme__key customer__email_key kind points effective_at actor__email reason explanation source_type "
        "takes_back__effective_at reverses__effective_at",
    ),
    "postings": (Posting, "account__customer__email_key entry__kind entry__effective_at ledger points"),
    "lots": (Lot, "customer__email_key amount remaining active_at expires_at activated_at"),
    "spends": (LotSpend, "lot__customer__email_key entry__kind entry__effective_at lot__active_at points"),
    "holds": (Hold, "programme__key customer__email_key points state reason expires_at resolved_at actor__email"),
    "transfers": (
        Transfer,
        "programme__key kind from_account__customer__email_key to_account__customer__email_key points reason effective_at "
        "actor__email",
    ),
    "freezes": (Freeze, "account__customer__email_key what reason ended_at ended_by__email"),
    "rule uses": (RuleUse, "programme__key rule_key customer__email_key points day week month year"),
    "members": (
        Membership,
        "programme__key customer__email_key joined_at ends_at left_at paid_minor renewals actor__email",
    ),
    "tiers": (TierStanding, "programme__key customer__email_key tier since counted grace_until check_at"),
    "tier changes": (
        TierChange,
        "programme__key customer__email_key id kind from_tier to_tier counted effective_at is_history actor__email",
    ),
    "rewards": (Reward, "programme__key name stock is_active"),
    "reward uses": (RewardUse, "reward__name customer__email_key count"),
    "redemptions": (Redemption, "reward__name customer__email_key points tier state ordered_at actor__email"),
    "redemption steps": (
        RedemptionStep,
        "redemption__customer__email_key redemption__ordered_at state reason at actor__email",
    ),
    "vouchers": (Voucher, "series__name code state customer__email_key issued_at expires_at used_at reference"),
    "referral codes": (ReferralCode, "customer__email_key"),
    "referrals": (
        Referral,
        "programme__key advocate__email_key email_key friend__email_key state doubts order__source_id reason decided_by__email",
    ),
    # Answers, and the cases they opened.
    "invitations": (
        Invitation,
        "survey__key customer__email_key reason language expires_at opened_at invited_by__email",
    ),
    "responses": (
        Response,
        "survey__key customer__email_key source source_id kind score comment language first_answered_at answered_at "
        "answer_count is_history",
    ),
    "answers": (Answer, "response__source_id number customer__email_key kind score comment language answered_at"),
    "cases": (Case, "customer__email_key kind state outcome assignee__email due_at answered_at closed_at"),
    "case notes": (CaseNote, "customer__email_key state outcome text assignee__email author__email"),
    # What home and the flow show.
    "stage days": (StageDay, "business_date stage customers entered left"),
    "flow days": (FlowDay, "business_date from_stage to_stage moves"),
    "stay days": (StayDay, "stage began ended stays"),
    "arrival days": (ArrivalDay, "business_date stage days people"),
    "flow periods": (FlowPeriod, "since until ways rules"),
    "trade days": (
        TradeDay,
        "business_date orders revenue_minor buyers first_buyers first_revenue_minor regular_revenue_minor returned",
    ),
    "cohort days": (CohortDay, "business_date unit cohort newcomers buyers again revenue_minor lapsed"),
    "retention days": (RetentionDay, "business_date days buyers_before came_back lost"),
    "report days": (
        ReportDay,
        "business_date points_outstanding points_liability_minor points_expiring members treated treated_back held_out "
        "held_out_back",
    ),
    "late days": (LateDay, "business_date"),
    # The outbox.
    "campaigns": (Campaign, "key name kind journey__key step purpose channel holdout_percent state alarm"),
    "runs": (Run, "campaign__name key state as_of audience variants guard confirmed_by__email"),
    "messages": (
        Message,
        "run__key customer__email_key channel version__label state reason address language context tries verdict "
        "consent__occurred_at transport parts error",
    ),
    # What chance decided, and what came of it.
    "experiment days": (
        ExperimentDay,
        "version__experiment__key version__label business_date joined people clicked ordered spent_minor spent_squares "
        "unsubscribed complained failed",
    ),
    "verdicts": (ExperimentVerdict, "experiment__key business_date kind winner__label is_yellow numbers"),
    # Who was let in where.
    "journeys": (Journey, "name state stale guard"),
    "journey entries": (
        JourneyRun,
        "journey__name customer__email_key id is_single state reason step listens goal_at night tries error",
    ),
    # The night itself.
    "nights": (Night, "business_date as_of state is_quiet error rule_set__version undone_by__email undo"),
    "set aside": (SetAside, "kind attempts error"),
}
"""Name → model and columns. An ``id`` stands for the place among the rows of the same customer."""

WORKINGS: dict[type[models.Model], str] = {
    Chunk: "the parts a night was cut into; how it was cut is no result",
    DirtyCustomer: "in the picture as who waits: five marks say no more than one",
    Proof: "which accounts a night proved; whose turn it is goes by the numbers of rows",
    Note: "stamps that change whenever a rollup does, and sizes of the shop when rules were made",
}
"""Written by a night, and not in the picture as rows."""

NOT_BY_A_NIGHT: dict[str, str] = {
    "admin auth contenttypes sessions accounts": "who works with the product: written at a door",
    "ground.Lease ground.IdempotencyRecord": "who holds a lease now, and answers given to programs",
    "customers.Customer customers.ExternalId customers.Product": "told by the shop; a night only reads them",
    "customers.ImportRun customers.ImportRow": "an import, with a proof of its own",
    "stages.Stage stages.RuleApproval stages.Backtest": "written by people; a backtest is replayed and leaves nothing",
    "loyalty.Programme loyalty.Limits loyalty.Approval loyalty.Allowance loyalty.GoodwillMonth loyalty.EarningRule "
    "loyalty.Ladder loyalty.Tier loyalty.RewardPrice loyalty.RewardPicture loyalty.VoucherSeries "
    "loyalty.ReferralOffer": "set by people",
    "loyalty.WalletCard loyalty.Household loyalty.HouseholdMember loyalty.Merge loyalty.MergedThing loyalty.Extension "
    "loyalty.ExtendedLot loyalty.Grant loyalty.GrantPerson loyalty.SignOff loyalty.CodeMail": "made by people",
    "feedback.Survey campaigns.Template campaigns.TemplateVariant campaigns.TemplateDraft "
    "campaigns.TrialMessage campaigns.JourneyVersion campaigns.SendingRules campaigns.WebhookTarget": "written by people",
    "campaigns.Rendering campaigns.Slot campaigns.Link campaigns.Throttle campaigns.Hold campaigns.Sender "
    "campaigns.DeliveryEvent campaigns.Suppression campaigns.Visit campaigns.Reply "
    "campaigns.Outage": "written when a message is sent or read, after the night",
    "campaigns.SignUpForm campaigns.SignUp": "made by people, and by strangers",
    "campaigns.Experiment campaigns.ExperimentVersion": "set up, started and ended by people",
    "campaigns.JourneyStep campaigns.StaffTask campaigns.StaffTaskChange campaigns.WebhookDelivery": "written when "
    "somebody goes on, after the night",
}
"""Apps or models no night writes, and why; ``tests/chaos/test_pictures.py`` watches real nights to see that it is so."""

LEFT_OUT = {
    "row numbers of ours": "id pk source_id cause key name_id digest code token message_id nonce number",
    "the clock of the machine": "recorded_at received_at reacted_at created_at updated_at started_at finished_at made_at "
    "counted_at added_at opened_at published_at state_at undone_at changed_at archived_at due_at sent_at",
    "who worked on it": "owner lease_until attempt attempts is_full counts",
}
"""Columns that differ between two runs that came to the same, in every table."""

SAID_ELSEWHERE = {
    "entries": "account",  # its programme and its customer
    "lots": "entry account",
    "holds": "account entry spend release moved_to",
    "freezes": "frozen_at",  # in the accounts; here it is when somebody looked
    "redemptions": "entry",
    "vouchers": "redemption issue_key use_key",
    "referrals": "email phone ip_digest device_digest decided_at",
    "responses": "invitation",
    "answers": "ip",
    "cases": "response",
    "case notes": "case",
    "set aside": "object_id",
    "journey entries": "version since entered_at ended_at",  # of the machine's clock, but for the version
    # What people set, and nothing else does.
    "rewards": "description kind perk product series points cost_minor per_customer starts_on ends_on only_tiers",
    "campaigns": "template audience cap_per_day cap_per_week quiet_from quiet_until calm_days credit_days fresh_from "
    "send_hour is_general created_by",
    "journeys": "again again_days holdout_percent exits goal goal_days draft edits version live_since created_by",
}
"""Columns of one table that another column or table tells in values, or that only people set."""

Picture = dict[str, list[tuple[Any, ...]]]


@contextmanager
def nothing_stays() -> Iterator[None]:
    """What happens inside is rolled back: the next run starts from the same tables, and with the same numbers.

    PostgreSQL does not take a number back that it gave, and who is held out depends on the customer's and the journey's.
    """

    class Back(Exception):
        pass

    try:
        with transaction.atomic():
            yield
            raise Back
    except Back:
        for statement in connection.ops.sequence_reset_sql(no_style(), [Customer, Journey]):
            batches.execute(statement)


def take(*without: str) -> Picture:
    """Every table but ``without``, each in an order that depends on values alone."""
    return {name: _rows(*table) for name, table in TABLES.items() if name not in without} | _waiting()


def _rows(model: type[models.Model], columns: str) -> list[tuple[Any, ...]]:
    names = columns.split()
    rows = [tuple(row) for row in model._default_manager.order_by("pk").values_list(*names)]
    if "id" in names:
        # The order of a customer's moves is part of what happened to them; the numbers are not.
        place, owner = names.index("id"), names.index("customer__email_key")
        seen: dict[Any, int] = {}
        for i, row in enumerate(rows):
            seen[row[owner]] = seen.get(row[owner], 0) + 1
            rows[i] = (*row[:place], seen[row[owner]], *row[place + 1 :])
    return sorted(rows, key=repr)


def _waiting() -> Picture:
    """Who waits for a refresh, and which facts wait for what follows from them.

    How many marks say that somebody waits does not matter: one is as good as five.
    """
    marked = DirtyCustomer.objects.values_list("customer_id", flat=True).distinct()
    emails = dict(CustomerFacts.objects.values_list("pk", "customer__email_key"))
    facts: list[tuple[Any, ...]] = []
    for model, names in ((Order, ("source_id",)), (Refund, ("source_id",)), (Response, ("source_id",))):
        waits = model._default_manager.filter(reacted_at=None).values_list(*names)
        facts += [(model._meta.model_name, *row) for row in waits]
    changes = TierChange.objects.filter(reacted_at=None).values_list("customer__email_key", "effective_at")
    facts += [("tierchange", *row) for row in changes]
    return {"waiting": sorted((emails.get(pk, pk),) for pk in marked), "to follow": sorted(facts, key=repr)}


def differences(one: Picture, other: Picture) -> list[str]:
    """What is in one and not in the other, for people: table, sign, row."""
    found: list[str] = []
    for name in one.keys() | other.keys():
        left, right = list(one.get(name, [])), list(other.get(name, []))
        for row in left:
            if row in right:
                right.remove(row)
            else:
                found.append(f"{name}: - {row}")
        found += [f"{name}: + {row}" for row in right]
    return sorted(found)
