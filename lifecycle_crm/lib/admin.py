"""Bases of admin classes that stay fast at a million rows, and the admin of the ground's own tables."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.utils.functional import cached_property

from lifecycle_crm.lib.models import IdempotencyRecord, Lease, Note, SetAside

MOST_COUNTED = 10_000


class CappedPaginator(Paginator):
    """Counts up to 10,000 rows and stops: whoever wants row 10,001 filters."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[:MOST_COUNTED].count())


class FastAdmin(admin.ModelAdmin):
    """No count of the whole table, and no page that has to be sorted before it is shown."""

    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    ordering = ["-pk"]


class ReadOnlyAdmin(FastAdmin):
    """For ledgers, histories and derived rows: looked at here, written by the verbs that own them."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Lease)
class LeaseAdmin(ReadOnlyAdmin):
    list_display = ["name", "owner", "token", "until"]
    search_fields = ["^name"]


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(ReadOnlyAdmin):
    """Without the stored answer: it may hold personal data."""

    list_display = ["key", "owner", "status", "created_at"]
    search_fields = ["=key"]
    exclude = ["body"]


@admin.register(Note)
class NoteAdmin(ReadOnlyAdmin):
    list_display = ["name", "updated_at"]


@admin.register(SetAside)
class SetAsideAdmin(ReadOnlyAdmin):
    list_display = ["kind", "object_id", "attempts", "error", "updated_at"]
    list_filter = ["kind"]
    search_fields = ["=object_id"]
