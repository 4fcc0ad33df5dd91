"""Rollups: a few rows per day, so that a page costs the same for a thousand customers and a million.

Only ``dashboard.rollups``, ``flow_rollups`` and ``cohort_rollups`` write them, and every row can be computed again from moves and
orders.
"""

from lifecycle_crm.dashboard.models.cohorts import CohortDay
from lifecycle_crm.dashboard.models.days import FlowDay, LateDay, ReportDay, RetentionDay, StageDay, TradeDay
from lifecycle_crm.dashboard.models.ways import ArrivalDay, FlowPeriod, StayDay

__all__ = [
    "ArrivalDay",
    "CohortDay",
    "FlowDay",
    "FlowPeriod",
    "LateDay",
    "ReportDay",
    "RetentionDay",
    "StageDay",
    "StayDay",
    "TradeDay",
]
