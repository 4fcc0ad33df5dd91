"""What every app needs and no app is."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Lease(models.Model):
    """The right to do one named piece of work, until a moment. Held by one owner; ``token`` fences a zombie out."""

    name = models.CharField(max_length=100, primary_key=True)
    owner = models.CharField(max_length=100)
    token = models.PositiveBigIntegerField(default=0)
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} held by {self.owner} until {self.until:%H:%M:%S}"


class IdempotencyRecord(models.Model):
    """The stored answer of a POST that carried an ``Idempotency-Key``; written in the same transaction as its effect."""

    owner = models.CharField(max_length=100, help_text="API key or user the key belongs to.")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of method, path and body.")
    status = models.PositiveSmallIntegerField()
    body = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["owner", "key"], name="ground_idempotency_key_once"),
        ]

    def __str__(self) -> str:
        return self.key


class Note(models.Model):
    """A fact about this installation that a command wrote and a page reads: the sample shop, a restore to confirm."""

    name = models.CharField(max_length=60, primary_key=True)
    value = models.JSONField(default=dict)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.name


class SetAside(models.Model):
    """One row that three tries could not process: named, out of the way, and never forgotten."""

    kind = models.CharField(max_length=60)
    object_id = models.BigIntegerField()
    attempts = models.PositiveSmallIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["kind", "object_id"], name="ground_set_aside_once")]

    def __str__(self) -> str:
        return f"{self.kind} #{self.object_id} after {self.attempts} tries"
