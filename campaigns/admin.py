from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext as _

from campaigns import rendering
from campaigns.errors import BrokenTemplate
from campaigns.models import (
    Campaign,
    DeliveryEvent,
    Experiment,
    ExperimentDay,
    ExperimentVerdict,
    ExperimentVersion,
    Hold,
    Journey,
    JourneyRun,
    JourneyStep,
    JourneyVersion,
    Link,
    Message,
    Outage,
    Rendering,
    Reply,
    Run,
    Sender,
    SendingRules,
    SignUp,
    SignUpForm,
    Slot,
    StaffTask,
    StaffTaskChange,
    Suppression,
    Template,
    TemplateDraft,
    TemplateVariant,
    Throttle,
    TrialMessage,
    Visit,
    WebhookDelivery,
    WebhookTarget,
)


class ReadOnly(admin.ModelAdmin):
    """History: it is looked at here and written by the code that owns it."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class VariantForm(forms.ModelForm):
    """A text that cannot be made is refused here, not at three in the morning."""

    class Meta:
        model = TemplateVariant
        fields = ("language", "version", "subject", "blocks")

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("blocks") and values.get("subject"):
            try:
                rendering.Prepared(
                    language=values.get("language", "en"),
                    subject=values["subject"],
                    blocks=values["blocks"],
                    has_foot=True,
                )
            except BrokenTemplate as problem:
                raise forms.ValidationError(problem.message) from problem
        return values


class VariantInline(admin.TabularInline):
    model = TemplateVariant
    form = VariantForm
    extra = 0
    show_change_link = True

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # a change is a new version

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Template)
class TemplateAdmin(admin.ModelAdmin):
    list_display = ("name", "key", "purpose", "channel", "archived_at")
    list_filter = ("purpose", "channel")
    readonly_fields = ("channel",)
    search_fields = ("key__startswith",)
    show_full_result_count = False
    inlines = (VariantInline,)


@admin.register(TemplateVariant)
class TemplateVariantAdmin(ReadOnly):
    list_display = ("template", "language", "version", "subject")
    list_filter = ("language",)
    list_select_related = ("template",)
    raw_id_fields = ("template", "created_by")


@admin.register(TemplateDraft)
class TemplateDraftAdmin(ReadOnly):
    list_display = ("template", "language", "base", "edited_by", "edited_at")
    list_select_related = ("template", "edited_by")
    raw_id_fields = ("template", "edited_by")


@admin.register(TrialMessage)
class TrialMessageAdmin(ReadOnly):
    list_display = ("created_at", "template", "language", "version", "sent_by", "sent_to", "state")
    list_filter = ("state",)
    list_select_related = ("template", "sent_by")
    raw_id_fields = ("template", "customer", "sent_by")


class CampaignForm(forms.ModelForm):
    """The channel follows from the template, once: what was planned for telephones is not sent to mailboxes."""

    def clean_template(self) -> Template:
        template: Template = self.cleaned_data["template"]
        if self.instance.pk is None:
            self.instance.channel = template.channel
        elif template.channel != self.instance.channel:
            raise forms.ValidationError(
                _("“%(name)s” is for another channel. Choose a text of the same channel.") % {"name": template.name}
            )
        return template


@admin.register(Campaign)
class CampaignAdmin(admin.ModelAdmin):
    form = CampaignForm
    list_display = ("name", "kind", "purpose", "channel", "state", "holdout_percent")
    list_filter = ("kind", "channel", "state")
    search_fields = ("key__startswith",)
    list_select_related = ("template",)
    raw_id_fields = ("template", "created_by")
    # State moves through its verbs, so that what is queued is paused or made due with it.
    readonly_fields = ("channel", "state", "created_at")
    show_full_result_count = False


@admin.register(Run)
class RunAdmin(ReadOnly):
    list_display = ("key", "campaign", "state", "audience", "created_at")
    list_filter = ("state",)
    list_select_related = ("campaign",)
    raw_id_fields = ("campaign", "confirmed_by")


@admin.register(Message)
class MessageAdmin(ReadOnly):
    list_display = ("id", "customer", "run", "state", "reason", "due_at", "sent_at")
    list_filter = ("state",)
    list_select_related = ("customer", "run")
    raw_id_fields = ("customer", "run", "consent")
    search_fields = ("=customer__id", "customer__email_key__startswith")


@admin.register(Rendering)
class RenderingAdmin(ReadOnly):
    list_display = ("message_id", "subject")
    raw_id_fields = ("message",)
    search_fields = ("=message__id",)


@admin.register(Slot)
class SlotAdmin(ReadOnly):
    list_display = ("customer_id", "day", "number", "message_id")
    raw_id_fields = ("message",)
    search_fields = ("=customer_id",)


@admin.register(Sender)
class SenderAdmin(ReadOnly):
    list_display = ("owner", "since")


@admin.register(Outage)
class OutageAdmin(ReadOnly):
    list_display = ("channel", "said", "since")


@admin.register(Reply)
class ReplyAdmin(ReadOnly):
    list_display = ("received_at", "phone", "text", "is_stop", "source")
    search_fields = ("=phone",)


@admin.register(Suppression)
class SuppressionAdmin(admin.ModelAdmin):
    list_display = ("channel", "address_key", "reason", "diagnostic", "created_at")
    list_filter = ("channel", "reason")
    search_fields = ("address_key__startswith",)
    show_full_result_count = False


@admin.register(Throttle)
class ThrottleAdmin(admin.ModelAdmin):
    list_display = ("name", "domains", "per_minute", "used", "booked_until")
    search_fields = ("name__startswith",)
    show_full_result_count = False


@admin.register(SendingRules)
class SendingRulesAdmin(admin.ModelAdmin):
    show_full_result_count = False
    list_display = ("__str__", "approve_above", "cost_per_thousand_minor", "cost_per_thousand_parts_minor")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return not SendingRules.objects.exists()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Hold)
class HoldAdmin(ReadOnly):
    list_display = ("reason", "since", "lifted_at", "lifted_by")
    list_select_related = ("lifted_by",)
    raw_id_fields = ("lifted_by",)


@admin.register(DeliveryEvent)
class DeliveryEventAdmin(ReadOnly):
    list_display = ("message_id", "kind", "occurred_at", "source", "diagnostic")
    list_filter = ("kind",)
    raw_id_fields = ("message",)
    search_fields = ("=message__id",)


@admin.register(Link)
class LinkAdmin(ReadOnly):
    list_display = ("campaign", "url")
    list_select_related = ("campaign",)
    raw_id_fields = ("campaign",)
    search_fields = ("=campaign__id",)


@admin.register(Visit)
class VisitAdmin(ReadOnly):
    list_display = ("message_id", "link_id", "occurred_at", "kind", "why")
    list_filter = ("kind",)
    raw_id_fields = ("message", "link")
    search_fields = ("=message__id",)


@admin.register(Journey)
class JourneyAdmin(ReadOnly):
    """Made and changed by its own pages, which know what a change does to people inside."""

    list_display = ("name", "state", "version", "again", "holdout_percent")
    list_filter = ("state",)
    search_fields = ("key__startswith",)
    raw_id_fields = ("created_by",)


@admin.register(JourneyVersion)
class JourneyVersionAdmin(ReadOnly):
    list_display = ("journey", "number", "published_at", "published_by")
    list_select_related = ("journey", "published_by")
    raw_id_fields = ("journey", "published_by")


@admin.register(JourneyRun)
class JourneyRunAdmin(ReadOnly):
    list_display = ("id", "journey", "customer", "state", "step", "due_at")
    list_filter = ("state",)
    list_select_related = ("journey", "customer")
    raw_id_fields = ("journey", "version", "customer")
    search_fields = ("=customer__id",)


@admin.register(JourneyStep)
class JourneyStepAdmin(ReadOnly):
    list_display = ("id", "run_id", "step", "outcome", "at")
    list_filter = ("outcome",)
    raw_id_fields = ("run",)
    search_fields = ("=run__id",)


@admin.register(StaffTask)
class StaffTaskAdmin(ReadOnly):
    """Done and passed on by its own pages, which keep the history."""

    list_display = ("id", "kind", "customer", "role", "assignee", "due_on", "state")
    list_filter = ("state", "kind")
    list_select_related = ("customer", "assignee")
    raw_id_fields = ("run", "customer", "assignee")
    search_fields = ("=customer__id",)


@admin.register(StaffTaskChange)
class StaffTaskChangeAdmin(ReadOnly):
    list_display = ("task_id", "what", "at", "by")
    list_filter = ("what",)
    list_select_related = ("by",)
    raw_id_fields = ("task", "by", "assignee")
    search_fields = ("=task__id",)


@admin.register(WebhookTarget)
class WebhookTargetAdmin(ReadOnly):
    """Made and changed by its own pages, which look where the address leads."""

    list_display = ("name", "key", "is_active", "created_at")
    fields = ("key", "name", "is_active", "quiet_until", "created_by")
    search_fields = ("key__startswith",)
    raw_id_fields = ("created_by",)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnly):
    list_display = ("number", "target", "customer", "state", "tries", "status", "due_at")
    list_filter = ("state",)
    list_select_related = ("target", "customer")
    raw_id_fields = ("target", "run", "customer")
    search_fields = ("=number", "=customer__id")


@admin.register(Experiment)
class ExperimentAdmin(ReadOnly):
    """Made, started and ended by its own pages, which say what that takes."""

    list_display = ("name", "campaign", "state", "measure", "needed", "started_at")
    list_filter = ("state",)
    list_select_related = ("campaign",)
    search_fields = ("key__startswith",)
    raw_id_fields = ("campaign", "chosen", "created_by", "started_by", "ended_by")


@admin.register(ExperimentVersion)
class ExperimentVersionAdmin(ReadOnly):
    list_display = ("experiment", "label", "template", "hour", "is_general", "share")
    list_select_related = ("experiment", "template")
    raw_id_fields = ("experiment", "template")
    search_fields = ("=experiment__id",)


@admin.register(ExperimentDay)
class ExperimentDayAdmin(ReadOnly):
    list_display = ("version", "business_date", "joined", "people", "clicked", "ordered", "spent_minor")
    list_select_related = ("version__template",)
    raw_id_fields = ("version",)
    search_fields = ("=version__experiment__id",)


@admin.register(ExperimentVerdict)
class ExperimentVerdictAdmin(ReadOnly):
    list_display = ("experiment", "business_date", "kind", "winner", "is_yellow")
    list_filter = ("kind",)
    list_select_related = ("experiment", "winner__template")
    raw_id_fields = ("experiment", "winner")
    search_fields = ("=experiment__id",)


@admin.register(SignUpForm)
class SignUpFormAdmin(ReadOnly):
    list_display = ("name", "key", "tag", "archived_at")
    search_fields = ("key__startswith",)
    raw_id_fields = ("created_by",)


@admin.register(SignUp)
class SignUpAdmin(ReadOnly):
    list_display = ("created_at", "form", "email", "language", "state", "confirmed_at")
    list_filter = ("state",)
    search_fields = ("=customer__id",)
    list_select_related = ("form",)
    raw_id_fields = ("form", "customer")
