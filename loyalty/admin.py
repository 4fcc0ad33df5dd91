from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from loyalty.models import (
    Account,
    Allowance,
    Approval,
    CodeMail,
    EarningRule,
    Entry,
    ExtendedLot,
    Extension,
    Freeze,
    GoodwillMonth,
    Grant,
    GrantPerson,
    Hold,
    Household,
    HouseholdMember,
    Ladder,
    Limits,
    Lot,
    LotSpend,
    Membership,
    Merge,
    MergedThing,
    Posting,
    Programme,
    Proof,
    Redemption,
    RedemptionStep,
    Referral,
    ReferralCode,
    ReferralOffer,
    Reward,
    RewardPicture,
    RewardPrice,
    RewardUse,
    RuleUse,
    SignOff,
    Tier,
    TierChange,
    TierStanding,
    Transfer,
    Voucher,
    VoucherSeries,
    WalletCard,
)


class ReadOnly(admin.ModelAdmin):
    """The ledger: written by its verbs only, looked at here."""

    show_full_result_count = False
    list_per_page = 50
    ordering = ["-pk"]

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class OfCustomer(ReadOnly):
    search_fields = ["=customer__email_key", "=customer__id"]
    search_help_text = "E-mail or number of the customer"


class OfAccount(ReadOnly):
    search_fields = ["=account__customer__email_key", "=account__customer__id"]
    search_help_text = "E-mail or number of the customer"


class WithCode(ReadOnly):
    search_fields = ["=code", "=customer__email_key", "=customer__id"]
    search_help_text = "Code, or e-mail or number of the customer"


@admin.register(Programme)
class ProgrammeAdmin(admin.ModelAdmin):
    list_display = ["name", "key", "kind", "joining", "position", "pending_days", "expiry_months", "is_active"]
    show_full_result_count = False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Membership)
class MembershipAdmin(ReadOnly):
    list_display = ["number", "customer", "programme", "joined_at", "ends_at", "left_at", "paid_minor", "renewals"]
    list_select_related = ["customer", "programme"]
    list_filter = ["programme"]
    raw_id_fields = ["customer", "actor"]
    search_fields = ["=customer__email_key", "=customer__id", "=number"]
    search_help_text = "E-mail or number of the customer, or the number of the card"


@admin.register(Account)
class AccountAdmin(OfCustomer):
    list_display = [
        "id",
        "customer",
        "programme",
        "balance",
        "pending",
        "held",
        "debt",
        "spent",
        "expired",
        "frozen_at",
    ]
    list_select_related = ["customer", "programme"]
    raw_id_fields = ["customer"]


@admin.register(Entry)
class EntryAdmin(OfCustomer):
    list_display = ["id", "customer", "kind", "points", "effective_at", "recorded_at", "actor", "reason"]
    list_select_related = ["customer", "actor"]
    list_filter = ["kind"]
    raw_id_fields = ["account", "customer", "actor", "takes_back", "reverses"]


@admin.register(Posting)
class PostingAdmin(ReadOnly):
    list_display = ["id", "entry", "ledger", "points"]
    list_select_related = ["entry"]
    raw_id_fields = ["entry", "account"]
    search_fields = ["=entry__id"]
    search_help_text = "Number of the entry"


@admin.register(Lot)
class LotAdmin(ReadOnly):
    list_display = ["id", "customer", "amount", "remaining", "active_at", "activated_at", "expires_at"]
    list_select_related = ["customer"]
    raw_id_fields = ["entry", "account", "customer"]
    search_fields = ["=entry__id"]
    search_help_text = "Number of the entry that credited it"


@admin.register(LotSpend)
class LotSpendAdmin(ReadOnly):
    list_display = ["id", "entry", "lot", "points"]
    list_select_related = ["entry", "lot"]
    raw_id_fields = ["entry", "lot"]
    search_fields = ["=lot__id", "=entry__id"]
    search_help_text = "Number of the lot or the entry"


@admin.register(Reward)
class RewardAdmin(ReadOnly):
    """Changed on its own page, where the stock is a counter."""

    list_display = ["name", "programme", "kind", "points", "stock", "per_customer", "starts_on", "ends_on", "is_active"]
    list_select_related = ["programme"]
    list_filter = ["kind", "is_active"]
    raw_id_fields = ["programme", "product"]
    search_fields = ["=id"]
    search_help_text = "Number of the reward"


@admin.register(RewardPrice)
class RewardPriceAdmin(ReadOnly):
    list_display = ["reward", "tier", "points"]
    list_select_related = ["reward"]
    raw_id_fields = ["reward"]
    search_fields = ["=reward__id"]
    search_help_text = "Number of the reward"


@admin.register(RewardPicture)
class RewardPictureAdmin(ReadOnly):
    """Changed on the reward's own page, which draws what is uploaded anew."""

    list_display = ["preview", "reward", "alt", "width", "height", "changed_at", "changed_by"]
    list_display_links = ["reward"]
    list_select_related = ["reward", "changed_by"]
    readonly_fields = ["preview"]
    raw_id_fields = ["reward", "changed_by"]
    search_fields = ["=reward__id"]
    search_help_text = "Number of the reward"

    @admin.display(description=_("Picture"))
    def preview(self, picture: RewardPicture) -> str:
        return format_html('<img src="{}" alt="{}" height="72">', picture.small_path, picture.alt)


@admin.register(RewardUse)
class RewardUseAdmin(OfCustomer):
    list_display = ["reward", "customer", "count"]
    list_select_related = ["reward", "customer"]
    raw_id_fields = ["reward", "customer"]


@admin.register(Redemption)
class RedemptionAdmin(WithCode):
    list_display = ["code", "reward", "customer", "points", "state", "ordered_at", "state_at"]
    list_select_related = ["reward", "customer"]
    list_filter = ["state"]
    raw_id_fields = ["reward", "customer", "entry", "actor"]


@admin.register(RedemptionStep)
class RedemptionStepAdmin(ReadOnly):
    list_display = ["redemption", "state", "at", "actor", "reason"]
    list_select_related = ["redemption", "actor"]
    raw_id_fields = ["redemption", "actor"]
    search_fields = ["=redemption__code"]
    search_help_text = "Code of the redemption"


@admin.register(VoucherSeries)
class VoucherSeriesAdmin(ReadOnly):
    list_display = ["name", "worth", "amount_minor", "percent", "valid_days", "ends_on", "is_endless"]
    raw_id_fields = ["created_by"]
    search_fields = ["=id"]
    search_help_text = "Number of the series"


@admin.register(Voucher)
class VoucherAdmin(WithCode):
    list_display = ["code", "series", "state", "customer", "issued_at", "expires_at", "used_at", "reference"]
    list_select_related = ["series", "customer"]
    list_filter = ["state"]
    raw_id_fields = ["series", "customer", "redemption"]


@admin.register(WalletCard)
class WalletCardAdmin(ReadOnly):
    list_display = ["number", "customer", "generation", "created_at"]
    list_select_related = ["customer"]
    raw_id_fields = ["customer"]
    search_fields = ["=number", "=customer__email_key", "=customer__id"]
    search_help_text = "Number of the card, or e-mail or number of the customer"


@admin.register(ReferralOffer)
class ReferralOfferAdmin(ReadOnly):
    list_display = ["programme", "advocate_points", "friend_points", "min_order_minor", "most_per_month", "is_active"]
    list_select_related = ["programme"]
    search_fields = ["=id"]
    search_help_text = "Number of the offer"


@admin.register(ReferralCode)
class ReferralCodeAdmin(WithCode):
    list_display = ["code", "customer", "created_at"]
    list_select_related = ["customer"]
    raw_id_fields = ["customer"]


@admin.register(Referral)
class ReferralAdmin(ReadOnly):
    list_display = ["id", "advocate", "friend", "state", "doubts", "created_at", "decided_at", "decided_by"]
    list_select_related = ["advocate", "friend", "decided_by"]
    list_filter = ["state"]
    raw_id_fields = ["advocate", "friend", "order", "decided_by"]
    search_fields = ["=advocate__email_key", "=advocate__id"]
    search_help_text = "E-mail or number of who recommends"


# --- Around the ledger ------------------------------------------------------------------------------------------------


@admin.register(Limits)
class LimitsAdmin(admin.ModelAdmin):
    list_display = ["programme", "approve_above", "hold_hours"]
    list_select_related = ["programme"]
    show_full_result_count = False


@admin.register(Allowance)
class AllowanceAdmin(ReadOnly):
    """Set on the goodwill page."""

    list_display = ["id", "role", "user", "points"]
    list_select_related = ["user"]
    raw_id_fields = ["user"]


@admin.register(GoodwillMonth)
class GoodwillMonthAdmin(ReadOnly):
    list_display = ["id", "user", "month", "points", "used"]
    list_select_related = ["user"]
    raw_id_fields = ["user"]
    search_fields = ["=user__email"]
    search_help_text = "E-mail of the person"


@admin.register(Approval)
class ApprovalAdmin(OfCustomer):
    list_display = ["id", "customer", "points", "state", "requested_by", "requested_at", "decided_by", "decided_at"]
    list_select_related = ["customer", "requested_by", "decided_by"]
    list_filter = ["state"]
    raw_id_fields = ["customer", "grant", "requested_by", "decided_by", "entry"]


@admin.register(CodeMail)
class CodeMailAdmin(OfCustomer):
    list_display = ["id", "redemption", "customer", "number", "requested_at", "reacted_at"]
    list_select_related = ["redemption", "customer"]
    raw_id_fields = ["redemption", "customer"]


@admin.register(SignOff)
class SignOffAdmin(ReadOnly):
    list_display = ["id", "programme", "day", "liability_minor", "currency", "signed_by", "signed_at", "replaces"]
    list_select_related = ["programme", "signed_by", "replaces"]
    raw_id_fields = ["signed_by", "replaces"]


@admin.register(Grant)
class GrantAdmin(ReadOnly):
    list_display = ["id", "programme", "whom", "whom_name", "people", "points", "state", "requested_by", "requested_at"]
    list_select_related = ["programme", "requested_by"]
    list_filter = ["state", "whom"]
    raw_id_fields = ["requested_by", "undone_by"]


@admin.register(GrantPerson)
class GrantPersonAdmin(OfCustomer):
    list_display = ["id", "grant", "customer", "state", "why"]
    list_select_related = ["grant", "customer"]
    list_filter = ["state", "why"]
    raw_id_fields = ["grant", "customer"]


@admin.register(Freeze)
class FreezeAdmin(OfAccount):
    list_display = ["id", "account", "what", "frozen_at", "ended_at", "ended_by", "reason"]
    list_select_related = ["account", "ended_by"]
    raw_id_fields = ["account", "ended_by"]


@admin.register(Hold)
class HoldAdmin(OfCustomer):
    list_display = ["id", "customer", "points", "state", "expires_at", "created_at", "resolved_at", "actor"]
    list_select_related = ["customer", "actor"]
    list_filter = ["state"]
    raw_id_fields = ["account", "customer", "actor", "entry", "spend", "release", "moved_to"]


@admin.register(Transfer)
class TransferAdmin(ReadOnly):
    list_display = ["id", "kind", "from_account", "to_account", "points", "effective_at", "actor", "reason"]
    list_select_related = ["from_account", "to_account", "actor"]
    list_filter = ["kind"]
    raw_id_fields = ["from_account", "to_account", "actor"]
    search_fields = ["=from_account__customer__id", "=to_account__customer__id"]
    search_help_text = "Number of either customer"


@admin.register(Household)
class HouseholdAdmin(ReadOnly):
    list_display = ["id", "name", "programme", "created_at", "actor"]
    list_select_related = ["programme", "actor"]
    raw_id_fields = ["actor"]


@admin.register(HouseholdMember)
class HouseholdMemberAdmin(OfCustomer):
    list_display = ["id", "household", "customer", "joined_at", "left_at"]
    list_select_related = ["household", "customer"]
    raw_id_fields = ["household", "customer"]


@admin.register(Merge)
class MergeAdmin(ReadOnly):
    list_display = [
        "id",
        "from_account",
        "into_account",
        "points",
        "pending",
        "held",
        "debt",
        "recorded_at",
        "undone_at",
    ]
    list_select_related = ["from_account", "into_account"]
    raw_id_fields = ["from_account", "into_account", "actor", "undone_by"]
    search_fields = ["=from_account__customer__id", "=into_account__customer__id"]
    search_help_text = "Number of either customer"


@admin.register(Extension)
class ExtensionAdmin(ReadOnly):
    list_display = ["id", "programme", "points", "customers", "expires_at", "reason", "actor", "recorded_at"]
    list_select_related = ["programme", "actor"]
    raw_id_fields = ["actor", "undoes"]
    search_fields = ["=id"]
    search_help_text = "Number of the extension"


@admin.register(ExtendedLot)
class ExtendedLotAdmin(OfCustomer):
    list_display = ["id", "extension", "customer", "points", "was", "becomes"]
    list_select_related = ["extension", "customer"]
    raw_id_fields = ["extension", "lot", "customer"]


@admin.register(MergedThing)
class MergedThingAdmin(ReadOnly):
    list_display = ["id", "merge", "kind", "object_id"]
    list_select_related = ["merge"]
    list_filter = ["kind"]
    raw_id_fields = ["merge"]
    search_fields = ["=merge__id"]
    search_help_text = "Number of the merge"


@admin.register(Proof)
class ProofAdmin(OfAccount):
    list_display = ["account", "proved_on", "through"]
    list_select_related = ["account"]
    raw_id_fields = ["account"]


@admin.register(EarningRule)
class EarningRuleAdmin(ReadOnly):
    """Rules are changed on their own page, which makes versions; here is what each version said."""

    list_display = ["id", "programme", "key", "version", "name", "kind", "points", "starts_at", "ends_at", "is_current"]
    list_select_related = ["programme"]
    list_filter = ["programme", "kind", "is_current"]
    raw_id_fields = ["segment", "created_by"]
    search_fields = ["=key"]
    search_help_text = "Key of the rule"


@admin.register(RuleUse)
class RuleUseAdmin(ReadOnly):
    list_display = ["id", "customer", "programme", "rule_key", "cause", "points"]
    list_select_related = ["customer", "programme"]
    raw_id_fields = ["customer"]
    search_fields = ["=customer__id"]
    search_help_text = "Number of the customer"


@admin.register(Ladder)
class LadderAdmin(ReadOnly):
    list_display = ["programme", "measure", "window", "window_months", "grace_days", "step_down", "changed_at"]
    list_select_related = ["programme"]


@admin.register(Tier)
class TierAdmin(ReadOnly):
    list_display = ["programme", "key", "name", "threshold"]
    list_select_related = ["programme"]
    list_filter = ["programme"]


@admin.register(TierStanding)
class TierStandingAdmin(OfCustomer):
    list_display = ["id", "customer", "programme", "tier", "since", "counted", "grace_until", "check_at"]
    list_select_related = ["customer", "programme"]
    list_filter = ["programme"]
    raw_id_fields = ["customer"]


@admin.register(TierChange)
class TierChangeAdmin(OfCustomer):
    list_display = ["id", "customer", "programme", "kind", "from_tier", "to_tier", "counted", "effective_at"]
    list_select_related = ["customer", "programme"]
    list_filter = ["programme", "kind"]
    raw_id_fields = ["customer", "actor"]
