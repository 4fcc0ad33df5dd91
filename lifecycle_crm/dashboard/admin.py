from __future__ import annotations

from django.contrib import admin

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
from lifecycle_crm.lib.admin import ReadOnlyAdmin


class RollupAdmin(ReadOnlyAdmin):
    """Written by the night; can be computed again from moves and orders."""

    date_hierarchy = "business_date"


@admin.register(StageDay)
class StageDayAdmin(RollupAdmin):
    list_display = ["business_date", "stage", "customers", "entered", "left"]
    list_filter = ["stage"]
    ordering = ["-business_date", "stage"]


@admin.register(FlowDay)
class FlowDayAdmin(RollupAdmin):
    list_display = ["business_date", "from_stage", "to_stage", "moves"]
    list_filter = ["from_stage", "to_stage"]
    ordering = ["-business_date", "from_stage", "to_stage"]


@admin.register(StayDay)
class StayDayAdmin(ReadOnlyAdmin):
    date_hierarchy = "ended"
    list_display = ["stage", "began", "ended", "stays"]
    list_filter = ["stage"]
    ordering = ["-ended", "stage", "-began"]


@admin.register(ArrivalDay)
class ArrivalDayAdmin(RollupAdmin):
    list_display = ["business_date", "stage", "days", "people"]
    list_filter = ["stage"]
    ordering = ["-business_date", "stage", "days"]


@admin.register(FlowPeriod)
class FlowPeriodAdmin(ReadOnlyAdmin):
    list_display = ["since", "until", "made_at"]
    ordering = ["-until", "-since"]


@admin.register(CohortDay)
class CohortDayAdmin(RollupAdmin):
    list_display = ["business_date", "unit", "cohort", "newcomers", "buyers", "again", "revenue_minor", "lapsed"]
    list_filter = ["unit"]
    ordering = ["-business_date", "unit", "-cohort"]


@admin.register(TradeDay)
class TradeDayAdmin(RollupAdmin):
    list_display = [
        "business_date",
        "orders",
        "revenue_minor",
        "buyers",
        "first_buyers",
        "regular_revenue_minor",
        "returned",
    ]
    ordering = ["-business_date"]


@admin.register(RetentionDay)
class RetentionDayAdmin(RollupAdmin):
    list_display = ["business_date", "days", "buyers_before", "came_back", "lost"]
    list_filter = ["days"]
    ordering = ["-business_date", "days"]


@admin.register(ReportDay)
class ReportDayAdmin(RollupAdmin):
    list_display = ["business_date", "points_outstanding", "points_liability_minor", "members", "treated", "held_out"]
    ordering = ["-business_date"]


@admin.register(LateDay)
class LateDayAdmin(ReadOnlyAdmin):
    list_display = ["business_date"]
