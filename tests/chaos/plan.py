"""How long a proof runs and what it tells: ``make chaos`` sets the three variables, the suite sets none.

``CHAOS_SEED``    what the dice start from (default 20260301); the same seed is the same run
``CHAOS_ROUNDS``  kills, examples and repetitions of a long run; unset means short
``CHAOS_OUT``     file to which every proof adds one line of JSON
"""

from __future__ import annotations

import os
import random

SEED = int(os.environ.get("CHAOS_SEED", "20260301"))
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "0"))
OUT = os.environ.get("CHAOS_OUT", "")
IS_LONG = ROUNDS > 0


def rounds(short: int) -> int:
    """So many kills or examples: ``short`` in the suite, what was asked for in a long run."""
    return ROUNDS or short


def dice(of: str) -> random.Random:
    """Dice of one proof, independent of the order in which proofs run."""
    return random.Random(f"{SEED}:{of}")
