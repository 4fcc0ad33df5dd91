"""REST: customers, their consents, and products. Scope nouns ``customers consents products``.

What customers did is ``activity_api``'s, groups of them ``segments_api``'s.
"""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from customers import activity_api, consent, ingest, queries, segments_api
from customers.activity_api import SOURCE
from customers.filters import CustomerFilter
from customers.ingest import CustomerIn, Status
from customers.ingest.items import REACT, only
from customers.models import Consent, Customer, CustomerFacts, Product
from lifecycle_crm.accounts.callers import sees_contacts
from lifecycle_crm.lib import bell
from lifecycle_crm.lib.api import BIGGEST_ID, OfCustomer, described
from lifecycle_crm.lib.errors import NotFound
from lifecycle_crm.templatetags.crm import STAGES

CONTACT_FIELDS = ("name", "given_name", "email", "phone", "city", "birth_date", "attributes")


# --- What goes out ----------------------------------------------------------------------------------------------------


class FactsOut(serializers.ModelSerializer):
    """What follows from a customer's rows. Money in minor units of the shop's currency, times in UTC."""

    first_order_at = serializers.DateTimeField(allow_null=True)
    last_order_at = serializers.DateTimeField(allow_null=True)
    engaged_at = serializers.DateTimeField(allow_null=True)
    answered_at = serializers.DateTimeField(allow_null=True)
    clicked_at = serializers.DateTimeField(allow_null=True)
    gap_seconds = serializers.IntegerField(allow_null=True, help_text="Usual gap between orders.")

    class Meta:
        model = CustomerFacts
        fields = [
            "orders", "first_order_at", "last_order_at", "spend_minor", "gap_seconds", "engaged_at", "may_email",
            "recency", "frequency", "monetary", "points", "tier", "nps_score", "answered_at", "open_cases", "clicked_at",
        ]  # fmt: skip
        read_only_fields = fields


class ExternalIdOut(serializers.Serializer):
    source = serializers.CharField()  # type: ignore[assignment]
    value = serializers.CharField()


class CustomerOut(serializers.ModelSerializer):
    stage = serializers.ChoiceField(
        source="facts.stage", choices=[*STAGES, ""], help_text="Where they stand; empty until the first evaluation."
    )
    stage_since = serializers.DateTimeField(source="facts.stage_since", allow_null=True)
    facts = FactsOut(allow_null=True)
    external_ids = ExternalIdOut(many=True)
    tags = serializers.ListField(child=serializers.CharField())
    attributes = serializers.DictField()

    class Meta:
        model = Customer
        fields = [
            "id", "kind", "name", "given_name", "email", "phone", "language", "time_zone", "country", "city",
            "birth_date", "tags", "attributes", "acquisition_source", "acquisition_medium", "acquisition_campaign",
            "acquisition_cost_minor", "is_invented", "known_since", "loaded_at", "external_ids", "stage", "stage_since",
            "facts",
        ]  # fmt: skip
        read_only_fields = fields

    def to_representation(self, instance: Customer) -> dict[str, Any]:
        if queries.facts_of(instance) is None:
            # Loaded a moment ago: no facts yet, and that is no error.
            instance.facts = CustomerFacts(customer=instance)
        data: dict[str, Any] = super().to_representation(instance)
        if not sees_contacts(self.context["request"]):
            empty: dict[str, Any] = {"birth_date": None, "attributes": {}}
            data |= {name: empty.get(name, "") for name in CONTACT_FIELDS}
            data["name"], data["external_ids"] = queries.initials(instance), []
        return data


class ConsentOut(serializers.ModelSerializer):
    class Meta:
        model = Consent
        fields = [
            "id", "customer", "purpose", "channel", "is_granted", "wording", "source", "language", "occurred_at",
            "recorded_at",
        ]  # fmt: skip


class ProductOut(serializers.ModelSerializer):
    class Meta:
        model = Product
        fields = ["id", "sku", "name", "category"]


# --- What comes in ----------------------------------------------------------------------------------------------------


class CustomerBody(serializers.Serializer):
    """A customer as the shop describes them. What is left out stays as it is; an empty string empties the field."""

    source = serializers.CharField(  # type: ignore[assignment]
        default=SOURCE, max_length=40, help_text="The system that external_id belongs to."
    )
    external_id = serializers.CharField(required=False, allow_blank=True, max_length=200)
    email = serializers.CharField(required=False, allow_blank=True, max_length=254)
    name = serializers.CharField(required=False, allow_blank=True, max_length=200)
    given_name = serializers.CharField(required=False, allow_blank=True, max_length=100)
    kind = serializers.ChoiceField(required=False, choices=Customer.Kind.choices)
    phone = serializers.CharField(required=False, allow_blank=True, max_length=40, help_text="Such as +46701234567.")
    language = serializers.CharField(required=False, allow_blank=True, max_length=20)
    time_zone = serializers.CharField(required=False, allow_blank=True, max_length=40)
    country = serializers.CharField(required=False, allow_blank=True, max_length=2)
    city = serializers.CharField(required=False, allow_blank=True, max_length=100)
    birth_date = serializers.DateField(required=False)
    tags = serializers.ListField(required=False, child=serializers.CharField(max_length=100), max_length=100)
    attributes = serializers.DictField(required=False)
    acquisition_source = serializers.CharField(required=False, allow_blank=True, max_length=80)
    acquisition_medium = serializers.CharField(required=False, allow_blank=True, max_length=80)
    acquisition_campaign = serializers.CharField(required=False, allow_blank=True, max_length=80)
    acquisition_cost_minor = serializers.IntegerField(required=False, min_value=0, max_value=10**15 - 1)
    known_since = serializers.DateTimeField(required=False)
    may_email = serializers.BooleanField(required=False, help_text="A statement of consent to offers by e-mail.")
    consent_wording = serializers.CharField(required=False, allow_blank=True, max_length=40)
    consent_at = serializers.DateTimeField(required=False)


class ConsentBody(serializers.Serializer):
    customer = serializers.IntegerField(min_value=1, max_value=BIGGEST_ID, help_text="Id of the customer.")
    purpose = serializers.ChoiceField(choices=Consent.Purpose.choices)
    channel = serializers.ChoiceField(choices=Consent.Channel.choices)
    is_granted = serializers.BooleanField()
    source = serializers.CharField(max_length=40, help_text="Where they said it; it is the proof.")  # type: ignore[assignment]
    wording = serializers.CharField(default="", allow_blank=True, max_length=40)
    ip = serializers.IPAddressField(required=False)
    language = serializers.CharField(default="", allow_blank=True, max_length=5)
    occurred_at = serializers.DateTimeField(required=False)


# --- Filters ----------------------------------------------------------------------------------------------------------


class ConsentFilter(OfCustomer):
    purpose = django_filters.ChoiceFilter(choices=Consent.Purpose.choices, label="Purpose.")
    channel = django_filters.ChoiceFilter(choices=Consent.Channel.choices, label="Channel.")

    class Meta:
        model = Consent
        fields: list[str] = []


class ProductFilter(django_filters.FilterSet):
    sku = django_filters.CharFilter(label="SKU.")
    category = django_filters.CharFilter(label="Category.")

    class Meta:
        model = Product
        fields: list[str] = []


# --- Views ------------------------------------------------------------------------------------------------------------


@described("Customers with their facts", "One customer with their facts", tag="customers")
class CustomerViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Who they are, what follows from what they did, and where they stand."""

    scope = "customers"
    queryset = Customer.objects.select_related("facts").prefetch_related("external_ids")
    serializer_class = CustomerOut
    filterset_class = CustomerFilter
    lookup_value_converter = "int"

    @extend_schema(
        summary="Make or update a customer",
        description="Matched by external_id, then by e-mail address. 201 when they are new, 200 when they were known.",
        tags=["customers"],
        request=CustomerBody,
    )
    def create(self, request: Request) -> Response:
        body = CustomerBody(data=request.data)
        body.is_valid(raise_exception=True)
        given = dict(body.validated_data)
        source = given.pop("source")
        result = only(ingest.save_customers([CustomerIn(**given)], source=source))
        code = status.HTTP_201_CREATED if result.status == Status.CREATED else status.HTTP_200_OK
        return Response(self._out(result.id), status=code)

    @extend_schema(summary="Change a customer", tags=["customers"], request=CustomerBody)
    def partial_update(self, request: Request, pk: int) -> Response:
        body = CustomerBody(data=request.data)
        body.is_valid(raise_exception=True)
        given = dict(body.validated_data)
        source = given.pop("source")
        found = self.get_object()
        ingest.save_customer(CustomerIn(customer_id=found.pk, **given), source=source)
        return Response(self._out(found.pk))

    def _out(self, pk: int | None) -> Any:
        return self.get_serializer(self.get_queryset().get(pk=pk)).data


@described("Statements of consent", "One statement of consent", tag="consents")
class ConsentViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """What customers allowed and refused; the last statement per purpose and channel counts."""

    scope = "consents"
    queryset = Consent.objects.all()
    serializer_class = ConsentOut
    filterset_class = ConsentFilter
    lookup_value_converter = "int"

    @extend_schema(
        summary="Record a statement of consent", tags=["consents"], request=ConsentBody, responses={201: ConsentOut}
    )
    def create(self, request: Request) -> Response:
        body = ConsentBody(data=request.data)
        body.is_valid(raise_exception=True)
        given = dict(body.validated_data)
        customer = Customer.objects.filter(pk=given.pop("customer")).first()
        if customer is None:
            raise NotFound(_("There is no customer with this id."), code="unknown_customer")
        row = consent.record(customer=customer, **given)
        bell.ring(REACT)
        return Response(ConsentOut(row).data, status=status.HTTP_201_CREATED)


@described("Products", "One product", tag="products")
class ProductViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """What was sold. Products are made by the order lines that name them."""

    scope = "products"
    queryset: QuerySet[Product] = Product.objects.all()
    serializer_class = ProductOut
    filterset_class = ProductFilter
    lookup_value_converter = "int"


ROUTES = [
    ("customers", CustomerViewSet, "customer"),
    *activity_api.ROUTES,
    ("consents", ConsentViewSet, "consent"),
    ("products", ProductViewSet, "product"),
    *segments_api.ROUTES,
]
