from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from lifecycle_crm.lib import clock


class ImportRun(models.Model):
    """One file on its way in: what it is, how its columns are read, how far it got and what came of it."""

    class Kind(models.TextChoices):
        CUSTOMERS = "customers", _("Customers")
        ORDERS = "orders", _("Orders")

    class State(models.TextChoices):
        UPLOADED = "uploaded", _("Uploaded")
        QUEUED = "queued", _("Waiting for a worker")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")

    kind = models.CharField(_("kind"), max_length=12, choices=Kind.choices)
    file_name = models.CharField(_("file"), max_length=200)
    path = models.CharField(max_length=500)
    source = models.CharField(_("source"), max_length=40, default="csv")
    mapping = models.JSONField(_("columns"), default=dict, blank=True)
    options = models.JSONField(_("options"), default=dict, blank=True)
    is_dry_run = models.BooleanField(_("dry run"), default=True)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.UPLOADED)
    next_line = models.PositiveBigIntegerField(default=0, help_text=_("Where a resumed run goes on."))
    rows = models.PositiveBigIntegerField(_("rows"), default=0)
    created = models.PositiveBigIntegerField(_("new"), default=0)
    updated = models.PositiveBigIntegerField(_("updated"), default=0)
    unchanged = models.PositiveBigIntegerField(_("already there"), default=0)
    refused = models.PositiveBigIntegerField(_("refused"), default=0)
    customers_created = models.PositiveBigIntegerField(_("customers made"), default=0)
    error = models.CharField(_("error"), max_length=500, blank=True)
    lease_owner = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("import")
        verbose_name_plural = _("imports")
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.file_name} ({self.kind})"


class ImportRow(models.Model):
    """A line that was refused, as it stood, with the reason: the download to mend and bring in again."""

    run = models.ForeignKey(ImportRun, on_delete=models.CASCADE, related_name="refusals")
    line = models.PositiveBigIntegerField(_("line"))
    values = models.JSONField(_("values"))
    column = models.CharField(_("column"), max_length=80, blank=True)
    reason = models.CharField(_("reason"), max_length=300)

    class Meta:
        verbose_name = _("refused line")
        verbose_name_plural = _("refused lines")
        constraints: ClassVar = [models.UniqueConstraint(fields=["run", "line"], name="customers_import_line_once")]
        ordering: ClassVar = ["run", "line"]

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"
