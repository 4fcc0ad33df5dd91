from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from feedback.models import Answer, Case, CaseNote, Invitation, Response, Survey


class ReadOnly(admin.ModelAdmin):
    """Facts: they are written by verbs only, and looked at here."""

    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Survey)
class SurveyAdmin(admin.ModelAdmin):
    list_display = ["name", "key", "kind", "state", "valid_days"]
    show_full_result_count = False

    def get_readonly_fields(self, request: HttpRequest, obj: Survey | None = None) -> list[str]:
        """The scale of a survey that may have answers never changes, nor does the name others call it by."""
        return ["key", "kind", "created_at"] if obj else ["created_at"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Invitation)
class InvitationAdmin(ReadOnly):
    """Without the link: whoever reads a table of links could answer for the customer."""

    list_display = ["id", "customer", "survey", "key", "language", "created_at", "expires_at", "opened_at"]
    list_select_related = ["customer", "survey"]
    search_fields = ["=customer__email_key", "=customer__id"]
    search_help_text = "E-mail or number of the customer"
    ordering = ["-id"]


@admin.register(Response)
class ResponseAdmin(ReadOnly):
    list_display = ["id", "customer", "survey", "score", "answered_at", "answer_count", "source", "is_history"]
    list_select_related = ["customer", "survey"]
    list_filter = ["kind", "is_history"]
    raw_id_fields = ["customer", "invitation"]
    search_fields = ["=customer__email_key", "=customer__id", "=source_id"]
    search_help_text = "E-mail or number of the customer, or id at the source"
    ordering = ["-id"]


@admin.register(Answer)
class AnswerAdmin(ReadOnly):
    list_display = ["id", "response_id", "number", "customer", "kind", "score", "answered_at"]
    list_select_related = ["customer"]
    raw_id_fields = ["customer", "response"]
    search_fields = ["=customer__email_key", "=customer__id"]
    search_help_text = "E-mail or number of the customer"
    ordering = ["-id"]


@admin.register(Case)
class CaseAdmin(ReadOnly):
    list_display = ["id", "customer", "kind", "state", "due_at", "assignee", "outcome", "closed_at"]
    list_select_related = ["customer", "assignee"]
    list_filter = ["state", "kind"]
    raw_id_fields = ["customer", "response", "assignee"]
    search_fields = ["=customer__email_key", "=customer__id"]
    search_help_text = "E-mail or number of the customer"
    ordering = ["-id"]


@admin.register(CaseNote)
class CaseNoteAdmin(ReadOnly):
    list_display = ["id", "case_id", "customer", "state", "author", "created_at"]
    list_select_related = ["customer", "author"]
    raw_id_fields = ["case", "customer", "assignee", "author"]
    search_fields = ["=customer__email_key", "=customer__id"]
    search_help_text = "E-mail or number of the customer"
    ordering = ["-id"]
