"""Every table of customers. What happened (orders, events, refunds, consents) is looked at here and written by its verbs."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _

from customers import facts, identity
from customers.models import (
    Consent,
    Customer,
    CustomerFacts,
    DirtyCustomer,
    Event,
    ExternalId,
    ImportRow,
    ImportRun,
    Order,
    OrderLine,
    Product,
    Refund,
    RfmChange,
    RfmCuts,
    RfmDay,
    Segment,
    SegmentChange,
    SegmentDay,
    SegmentMember,
    SegmentStanding,
    SegmentVersion,
    email_key,
)
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import DomainError
from lifecycle_crm.lib.numbers import row_number

_NUMBERS = ("pk", "customer_id", "order_id", "run_id")


class Looked(admin.ModelAdmin):
    """A table that is looked at. The search finds the words of ``finds`` exactly, so an index answers it."""

    show_full_result_count = False
    list_per_page = 50
    ordering: ClassVar = ["-pk"]
    finds: ClassVar[tuple[str, ...]] = ()

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return self.finds

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        either = Q(pk__in=[])
        for name in self.finds:
            if name.endswith("email_key"):
                either |= Q(**{name: email_key(term)})
            elif name in _NUMBERS:
                if (number := row_number(term)) is not None:
                    either |= Q(**{name: number})
            else:
                either |= Q(**{name: term})
        return queryset.filter(either), False


class CustomerForm(forms.ModelForm):
    class Meta:
        model = Customer
        fields: ClassVar = [
            "kind", "name", "given_name", "email", "phone", "language", "time_zone", "country", "city", "birth_date",
            "tags", "attributes", "acquisition_source", "acquisition_medium", "acquisition_campaign",
            "acquisition_cost_minor", "owner", "known_since",
        ]  # fmt: skip

    def _checked(self, name: str, check: Any) -> str:
        value: str = self.cleaned_data[name]
        try:
            return check(value) if value else ""
        except DomainError as problem:
            raise forms.ValidationError(problem.message) from None

    def clean_email(self) -> str:
        address = self._checked("email", identity.email)
        if address and Customer.objects.filter(email_key=email_key(address)).exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError(_("This address belongs to another customer."))
        return address

    def clean_phone(self) -> str:
        return self._checked("phone", identity.phone)

    def clean_language(self) -> str:
        return self._checked("language", identity.language)

    def clean_time_zone(self) -> str:
        return self._checked("time_zone", identity.time_zone)

    def clean_country(self) -> str:
        return self._checked("country", identity.country)


class ExternalIdInline(admin.TabularInline):
    model = ExternalId
    extra = 0


@admin.register(Customer)
class CustomerAdmin(Looked):
    """Who they are may be put right here. Nobody is deleted: their orders and points would lose their owner."""

    form = CustomerForm
    list_display: ClassVar = ["id", "name", "email", "city", "country", "language", "known_since", "is_invented"]
    list_filter: ClassVar = ["kind", "country", "language", "is_invented"]
    finds = ("pk", "email_key", "name", "external_ids__value")
    search_help_text = "Number, e-mail, full name or external id"
    raw_id_fields: ClassVar = ["owner"]
    readonly_fields: ClassVar = ["loaded_at", "is_invented"]
    inlines: ClassVar = [ExternalIdInline]

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_change_permission(self, request, obj)

    def save_model(self, request: HttpRequest, obj: Customer, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        facts.mark([obj.pk], occurred_at=clock.now() if change else obj.known_since)


@admin.register(ExternalId)
class ExternalIdAdmin(Looked):
    list_display: ClassVar = ["id", "source", "value", "customer"]
    list_select_related: ClassVar = ["customer"]
    list_filter: ClassVar = ["source"]
    finds = ("value", "customer_id")
    search_help_text = "External id, or number of the customer"
    raw_id_fields: ClassVar = ["customer"]


@admin.register(Product)
class ProductAdmin(Looked):
    list_display: ClassVar = ["id", "sku", "name", "category"]
    list_filter: ClassVar = ["category"]
    finds = ("sku", "name")
    search_help_text = "SKU or full name"

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_change_permission(self, request, obj)


class OrderLineInline(admin.TabularInline):
    model = OrderLine
    extra = 0
    can_delete = False
    raw_id_fields: ClassVar = ["product"]

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False


@admin.register(Order)
class OrderAdmin(Looked):
    list_display: ClassVar = [
        "id", "source", "source_id", "customer", "placed_at", "status", "currency", "amount_minor", "refunded_minor",
        "is_history",
    ]  # fmt: skip
    list_select_related: ClassVar = ["customer"]
    list_filter: ClassVar = ["status", "source", "currency", "is_history"]
    finds = ("source_id", "customer_id", "customer__email_key")
    search_help_text = "Number at the source, number or e-mail of the customer"
    raw_id_fields: ClassVar = ["customer"]
    inlines: ClassVar = [OrderLineInline]


@admin.register(OrderLine)
class OrderLineAdmin(Looked):
    list_display: ClassVar = ["id", "order", "title", "quantity", "unit_minor", "discount_minor"]
    list_select_related: ClassVar = ["order"]
    finds = ("order_id", "product__sku")
    search_help_text = "Number of the order, or SKU"
    raw_id_fields: ClassVar = ["order", "product"]


@admin.register(Refund)
class RefundAdmin(Looked):
    list_display: ClassVar = ["id", "source", "source_id", "order", "amount_minor", "occurred_at", "is_cancellation"]
    list_select_related: ClassVar = ["order"]
    finds = ("source_id", "order_id")
    search_help_text = "Number at the source, or number of the order"
    raw_id_fields: ClassVar = ["order"]


@admin.register(Event)
class EventAdmin(Looked):
    list_display: ClassVar = ["id", "name", "customer", "occurred_at", "source", "source_id", "is_history"]
    list_select_related: ClassVar = ["customer"]
    finds = ("source_id", "customer_id", "customer__email_key")
    search_help_text = "Id at the source, number or e-mail of the customer"
    raw_id_fields: ClassVar = ["customer"]


@admin.register(Consent)
class ConsentAdmin(Looked):
    list_display: ClassVar = ["id", "customer", "purpose", "channel", "is_granted", "source", "occurred_at"]
    list_select_related: ClassVar = ["customer"]
    list_filter: ClassVar = ["purpose", "channel", "is_granted"]
    finds = ("customer_id", "customer__email_key")
    search_help_text = "Number or e-mail of the customer"
    raw_id_fields: ClassVar = ["customer"]


@admin.register(CustomerFacts)
class CustomerFactsAdmin(Looked):
    list_display: ClassVar = ["customer", "stage", "orders", "spend_minor", "last_order_at", "points", "next_review_at"]
    list_select_related: ClassVar = ["customer"]
    list_filter: ClassVar = ["stage"]
    finds = ("pk", "customer__email_key")
    search_help_text = "Number or e-mail of the customer"
    raw_id_fields: ClassVar = ["customer"]


@admin.register(DirtyCustomer)
class DirtyCustomerAdmin(Looked):
    list_display: ClassVar = ["id", "customer_id", "occurred_at", "is_history"]
    finds = ("customer_id",)
    search_help_text = "Number of the customer"


@admin.register(RfmCuts)
class RfmCutsAdmin(Looked):
    list_display: ClassVar = ["computed_on", "recency_days", "frequency", "monetary_minor", "buyers"]


@admin.register(RfmDay)
class RfmDayAdmin(Looked):
    list_display: ClassVar = ["business_date", "group", "customers", "revenue_minor"]
    list_filter: ClassVar = ["group"]


@admin.register(RfmChange)
class RfmChangeAdmin(Looked):
    list_display: ClassVar = ["id", "customer", "from_group", "to_group", "business_date"]
    list_select_related: ClassVar = ["customer"]
    finds = ("customer_id", "customer__email_key")
    search_help_text = "Number or e-mail of the customer"
    raw_id_fields: ClassVar = ["customer"]


@admin.register(Segment)
class SegmentAdmin(Looked):
    list_display: ClassVar = ["key", "name", "kind", "version", "members", "counted_at", "owner", "archived_at"]
    list_select_related: ClassVar = ["owner"]
    list_filter: ClassVar = ["kind"]
    finds = ("key",)
    search_help_text = "Key of the segment"
    raw_id_fields: ClassVar = ["owner"]


@admin.register(SegmentVersion)
class SegmentVersionAdmin(Looked):
    list_display: ClassVar = ["id", "segment", "number", "created_by", "created_at"]
    list_select_related: ClassVar = ["segment", "created_by"]
    finds = ("segment__key",)
    search_help_text = "Key of the segment"
    raw_id_fields: ClassVar = ["segment", "created_by"]


@admin.register(SegmentMember)
class SegmentMemberAdmin(Looked):
    list_display: ClassVar = ["id", "segment", "customer", "added_at", "added_by"]
    list_select_related: ClassVar = ["segment", "customer", "added_by"]
    finds = ("segment__key", "customer_id")
    search_help_text = "Key of the segment, or number of the customer"
    raw_id_fields: ClassVar = ["segment", "customer", "added_by"]


@admin.register(SegmentStanding)
class SegmentStandingAdmin(Looked):
    list_display: ClassVar = ["id", "segment", "customer"]
    list_select_related: ClassVar = ["segment", "customer"]
    finds = ("segment__key", "customer_id")
    search_help_text = "Key of the segment, or number of the customer"
    raw_id_fields: ClassVar = ["segment", "customer"]


@admin.register(SegmentChange)
class SegmentChangeAdmin(Looked):
    list_display: ClassVar = ["id", "segment", "customer", "kind", "business_date"]
    list_select_related: ClassVar = ["segment", "customer"]
    list_filter: ClassVar = ["kind"]
    finds = ("segment__key", "customer_id")
    search_help_text = "Key of the segment, or number of the customer"
    raw_id_fields: ClassVar = ["segment", "customer"]


@admin.register(SegmentDay)
class SegmentDayAdmin(Looked):
    list_display: ClassVar = ["segment", "business_date", "version", "members", "entered", "left", "is_first"]
    list_select_related: ClassVar = ["segment"]
    finds = ("segment__key",)
    search_help_text = "Key of the segment"
    raw_id_fields: ClassVar = ["segment"]


@admin.register(ImportRun)
class ImportRunAdmin(Looked):
    list_display: ClassVar = [
        "id", "file_name", "kind", "state", "is_dry_run", "rows", "created", "updated", "unchanged", "refused",
        "created_by", "created_at",
    ]  # fmt: skip
    list_select_related: ClassVar = ["created_by"]
    list_filter: ClassVar = ["kind", "state", "is_dry_run"]
    finds = ("pk",)
    search_help_text = "Number of the import"
    raw_id_fields: ClassVar = ["created_by"]


@admin.register(ImportRow)
class ImportRowAdmin(Looked):
    list_display: ClassVar = ["id", "run", "line", "column", "reason"]
    list_select_related: ClassVar = ["run"]
    finds = ("run_id",)
    search_help_text = "Number of the import"
    raw_id_fields: ClassVar = ["run"]
