"""How often somebody may knock at a public door: so many times a minute, counted in the cache.

With Redis all processes count together; without it each counts for itself, so the limit is at most so many times the
number of processes. A cache that does not answer lets everybody in: a customer's page is worth more than the limit.
"""

from __future__ import annotations

import hashlib
import logging

from django.core.cache import cache
from django.utils.translation import gettext as _

from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import TooMany

logger = logging.getLogger(__name__)

MINUTE = 60


def take(door: str, who: object, *, most: int) -> None:
    """Count one knock of ``who`` (a link, a code, an address) at a door. Raises ``TooMany`` after ``most`` in a minute."""
    minute = int(clock.now().timestamp()) // MINUTE
    name = hashlib.blake2b(str(who).encode(), digest_size=16).hexdigest()
    key = f"pace:{door}:{name}:{minute}"
    try:
        cache.add(key, 0, 2 * MINUTE)
        count = cache.incr(key)
    except Exception:
        logger.warning("The cache does not answer, so nobody is counted at %s", door, exc_info=True)
        return
    if count > most:
        raise TooMany(_("Wait a minute, then try again."), door=door)
