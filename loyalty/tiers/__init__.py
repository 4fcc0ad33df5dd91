"""Tiers: the ladder of a programme, who stands where, and how far it is to the next step.

``evaluate`` decides for the batch of ``facts.batch()`` set-based, so the same statements serve a night and a second. It
decides as of a moment from what was counted before it: who reaches a tier has it at once; who has too little keeps it
through the grace, then steps down. Every change is a row of ``TierChange``; ``TierStanding`` is what they add up to.
"""

from loyalty.tiers.asking import Given, Progress, TierMonth, by_month, given, members_per_tier, names, progress
from loyalty.tiers.audit import problems
from loyalty.tiers.counting import counted, window_start
from loyalty.tiers.deciding import evaluate, rank, reached, wake
from loyalty.tiers.ladder import BadTiers, Step, check, ladders, main, set_ladder

__all__ = [
    "BadTiers",
    "Given",
    "Progress",
    "Step",
    "TierMonth",
    "by_month",
    "check",
    "counted",
    "evaluate",
    "given",
    "ladders",
    "main",
    "members_per_tier",
    "names",
    "problems",
    "progress",
    "rank",
    "reached",
    "set_ladder",
    "wake",
    "window_start",
]
