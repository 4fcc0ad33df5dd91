from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from lifecycle_crm.lib.admin import ReadOnlyAdmin
from stages.models import Backtest, Chunk, Night, Pin, RuleApproval, RuleSet, Stage, StageTransition


@admin.register(Stage)
class StageAdmin(admin.ModelAdmin):
    """The shop's own words about a stage. Left empty, the texts we ship are shown in the reader's language."""

    list_display = ["key", "position", "goal"]
    ordering = ["position"]
    readonly_fields = ["key", "position"]
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(RuleSet)
class RuleSetAdmin(ReadOnlyAdmin):
    """Drafted and published under Stages, where what it would do is shown first."""

    list_display = ["version", "name", "state", "created_by", "created_at", "published_at"]
    list_select_related = ["created_by"]
    list_filter = ["state"]
    ordering = ["-version"]


@admin.register(RuleApproval)
class RuleApprovalAdmin(ReadOnlyAdmin):
    list_display = ["rule_set", "mode", "moving", "requested_by", "requested_at", "approved_by", "approved_at"]
    list_select_related = ["rule_set", "requested_by", "approved_by"]


@admin.register(Backtest)
class BacktestAdmin(ReadOnlyAdmin):
    list_display = ["id", "rule_set", "months", "state", "customers", "created_by", "created_at", "finished_at"]
    list_select_related = ["rule_set", "created_by"]
    list_filter = ["state"]


@admin.register(Night)
class NightAdmin(ReadOnlyAdmin):
    list_display = ["business_date", "state", "rule_set", "is_full", "is_quiet", "started_at", "finished_at"]
    list_select_related = ["rule_set"]
    list_filter = ["state"]
    ordering = ["-business_date"]


@admin.register(Chunk)
class ChunkAdmin(ReadOnlyAdmin):
    list_display = ["night", "step", "low", "high", "state", "attempts", "seconds", "error"]
    list_select_related = ["night"]
    list_filter = ["state", "step"]


@admin.register(StageTransition)
class StageTransitionAdmin(ReadOnlyAdmin):
    list_display = ["id", "customer", "from_stage", "to_stage", "kind", "rule", "business_date", "is_quiet"]
    list_select_related = ["customer"]
    raw_id_fields = ["customer", "rule_set", "night", "user"]
    search_fields = ["=customer__id", "=customer__email_key"]
    search_help_text = "Number or e-mail of the customer"


@admin.register(Pin)
class PinAdmin(ReadOnlyAdmin):
    """A pin is set on the customer's page; here it can be looked at."""

    list_display = ["customer", "stage", "until", "reason", "user"]
    list_select_related = ["customer", "user"]
    raw_id_fields = ["customer", "user"]
    search_fields = ["=customer__id", "=customer__email_key"]
    search_help_text = "Number or e-mail of the customer"
