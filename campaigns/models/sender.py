"""Who sends, for as long as the database has not lost anything."""

from __future__ import annotations

from pathlib import Path

from django.db import connection, models
from django.utils.translation import gettext_lazy as _

from lifecycle_crm.lib import clock


class Sender(models.Model):
    """The witness of a sender: while its row is there, every mark the sender committed is there too.

    Marks of single messages do not wait for the disk (docs/adr/0009), so a crash of the database may forget the last of
    them. It forgets this table with them: PostgreSQL empties it (it is not logged) in every recovery, and a row that
    SQLite kept names the boot of the machine it was written in. A message claimed by a sender without a witness may have
    left, so it is in doubt.
    """

    owner = models.CharField(max_length=100, primary_key=True)
    boot = models.CharField(max_length=40, blank=True)
    since = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name = _("sender")
        verbose_name_plural = _("senders")

    def __str__(self) -> str:
        return self.owner


def this_boot() -> str:
    """Changes when the machine of an embedded database starts anew; "" where the database sees to it itself."""
    if connection.vendor == "postgresql":
        return ""
    known = Path("/proc/sys/kernel/random/boot_id")
    return known.read_text(encoding="ascii").strip() if known.exists() else "unknown"
