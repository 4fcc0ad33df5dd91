"""REST: what customers did: orders with their refunds, and events. Scope nouns ``orders events``.

A batch is read by plain functions, item by item, so that a bad item gets its own answer and the good ones are one
write; the serializers of a batch are its description.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import django_filters
from django.db import models
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from customers import ingest
from customers.ingest import EventIn, LineIn, OrderIn, Result, Status
from customers.ingest.items import only
from customers.models import Event, Order, OrderLine, Refund
from lifecycle_crm.accounts.callers import sees_contacts
from lifecycle_crm.lib.api import BIGGEST_ID, OfCustomer, described
from lifecycle_crm.lib.errors import DomainError, InvalidInput

SOURCE = "api"
"""Where it came from, unless the sender says."""
MOST_ITEMS = 1000
"""Items of one batch: a few seconds of work, and a body far below what the web server takes."""


# --- What goes out ---------------------------------------------------------------------------------------------------


class LineOut(serializers.ModelSerializer):
    sku = serializers.CharField(source="product.sku", default="", help_text="Empty for a line without a product.")

    class Meta:
        model = OrderLine
        fields = ["title", "sku", "quantity", "unit_minor", "discount_minor"]


class OrderOut(serializers.ModelSerializer):
    lines = LineOut(many=True)

    class Meta:
        model = Order
        fields = [
            "id", "customer", "source", "source_id", "placed_at", "status", "currency", "amount_minor",
            "refunded_minor", "rate", "base_minor", "items", "is_counted", "is_history", "received_at", "lines",
        ]  # fmt: skip


class RefundOut(serializers.ModelSerializer):
    class Meta:
        model = Refund
        fields = ["id", "order", "source", "source_id", "occurred_at", "amount_minor", "is_cancellation"]


class EventOut(serializers.ModelSerializer):
    properties = serializers.DictField()

    class Meta:
        model = Event
        fields = [
            "id", "customer", "name", "occurred_at", "received_at", "source", "source_id", "properties", "is_history"
        ]  # fmt: skip

    def to_representation(self, event: Event) -> dict[str, Any]:
        answer: dict[str, Any] = super().to_representation(event)
        # A shop puts into them what it likes, such as an address; the time line of the pages does not show them either.
        return answer if sees_contacts(self.context["request"]) else {**answer, "properties": {}}


class ResultOut(serializers.Serializer):
    """The answer to one item of a batch."""

    index = serializers.IntegerField(help_text="Place in the request, from 0.")
    ref = serializers.CharField(help_text="The name the item was sent with.")
    status = serializers.ChoiceField(choices=[str(one) for one in Status])
    id = serializers.IntegerField(allow_null=True, help_text="Our id, also for a duplicate; null for an error.")
    code = serializers.CharField(help_text="For an error: what was wrong, for machines.")
    field = serializers.CharField(help_text="For an error: the value it is about, where it is one.")
    message = serializers.CharField(help_text="For an error: what was wrong and how to mend it.")


class BatchOut(serializers.Serializer):
    created = serializers.IntegerField()
    duplicate = serializers.IntegerField(help_text="Were there already; nothing changed.")
    error = serializers.IntegerField()
    results = ResultOut(many=True)


# --- What comes in ---------------------------------------------------------------------------------------------------


class LineBody(serializers.Serializer):
    title = serializers.CharField(max_length=200)
    unit_minor = serializers.IntegerField(min_value=0, max_value=10**15 - 1)
    quantity = serializers.IntegerField(default=1, min_value=0, max_value=10**9 - 1)
    discount_minor = serializers.IntegerField(default=0, min_value=0, max_value=10**15 - 1)
    sku = serializers.CharField(default="", allow_blank=True, max_length=80)
    category = serializers.CharField(default="", allow_blank=True, max_length=100)


class Named(serializers.Serializer):
    """Whose it is: one of ``customer_id`` (ours), ``external_id`` (the source's) and ``email``."""

    customer_id = serializers.IntegerField(required=False, min_value=1, max_value=BIGGEST_ID)
    external_id = serializers.CharField(required=False, allow_blank=True, max_length=200)
    email = serializers.CharField(required=False, allow_blank=True, max_length=254)


class OrderItem(Named):
    source_id = serializers.CharField(max_length=120, help_text="The order's number; the same number is written once.")
    placed_at = serializers.DateTimeField()
    amount_minor = serializers.IntegerField(min_value=0, max_value=10**15 - 1, help_text="1250 is 12.50.")
    currency = serializers.CharField(max_length=3, help_text="ISO 4217, such as SEK.")
    items = serializers.IntegerField(required=False, min_value=0, max_value=10**9 - 1)
    rate = serializers.DecimalField(
        required=False,
        max_digits=18,
        decimal_places=8,
        help_text="Price of one unit of the currency in the shop's; needed where they differ.",
    )
    lines = LineBody(many=True, required=False)


class OrderBody(OrderItem):
    source = serializers.CharField(default=SOURCE, max_length=40)  # type: ignore[assignment]


class EventItem(Named):
    name = serializers.CharField(max_length=80, help_text="Such as visit, cart, review or referral.")
    occurred_at = serializers.DateTimeField()
    source_id = serializers.CharField(max_length=120, help_text="The same id is written once.")
    properties = serializers.DictField(required=False)
    sent_at = serializers.DateTimeField(required=False, help_text="The sender's clock, to correct a wrong one.")


class EventBody(EventItem):
    source = serializers.CharField(default=SOURCE, max_length=40)  # type: ignore[assignment]


class OrderBatch(serializers.Serializer):
    source = serializers.CharField(default=SOURCE, max_length=40)  # type: ignore[assignment]
    orders = OrderItem(many=True)


class EventBatch(serializers.Serializer):
    source = serializers.CharField(default=SOURCE, max_length=40)  # type: ignore[assignment]
    events = EventItem(many=True)


class RefundBody(serializers.Serializer):
    source = serializers.CharField(default=SOURCE, max_length=40)  # type: ignore[assignment]
    source_id = serializers.CharField(max_length=120, help_text="The refund's number; the same number is written once.")
    amount_minor = serializers.IntegerField(required=False, min_value=1, max_value=10**15 - 1)
    occurred_at = serializers.DateTimeField(required=False)
    is_cancellation = serializers.BooleanField(default=False, help_text="Give back all that is left; needs no amount.")


# --- Items of a batch -------------------------------------------------------------------------------------------------

_NAMED = {"customer_id": int, "external_id": str, "email": str}
_ORDER = {
    **_NAMED, "source_id": str, "placed_at": datetime, "amount_minor": int, "currency": str, "items": int,
    "rate": Decimal, "lines": list,
}  # fmt: skip
_LINE = {"title": str, "unit_minor": int, "quantity": int, "discount_minor": int, "sku": str, "category": str}
_EVENT = {
    **_NAMED, "name": str, "occurred_at": datetime, "source_id": str, "properties": dict, "sent_at": datetime
}  # fmt: skip


def _value(name: str, value: Any, wanted: type) -> Any:
    """A JSON value as the verb takes it. Raises ``InvalidInput`` with the field's name."""
    if wanted is datetime and isinstance(value, str):
        try:
            moment = parse_datetime(value)
        except ValueError:
            moment = None
        if moment is not None:
            return moment
    elif wanted is Decimal and isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return Decimal(str(value))
        except InvalidOperation:
            pass
    elif isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)):
        return value
    names = {
        str: _("a text"), int: _("a whole number"), datetime: _("a time such as 2026-03-01T12:00:00+01:00"),
        Decimal: _("a number"), list: _("a list"), dict: _("an object"),
    }  # fmt: skip
    raise InvalidInput(
        _("%(field)s must be %(kind)s.") % {"field": name, "kind": names[wanted]}, code="invalid", field=name
    )


def _read(data: Any, fields: dict[str, type], needed: Sequence[str]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise InvalidInput(_("Each item must be an object."), code="invalid")
    if unknown := sorted(set(data) - set(fields)):
        raise InvalidInput(
            _("Unknown field %(name)s. Known are: %(names)s.")
            % {"name": repr(unknown[0])[:60], "names": ", ".join(sorted(fields))},
            code="unknown_field",
        )
    if missing := [name for name in needed if data.get(name) is None]:
        raise InvalidInput(_("%(field)s is missing.") % {"field": missing[0]}, code="missing_field", field=missing[0])
    return {name: _value(name, value, fields[name]) for name, value in data.items() if value is not None}


def _order(data: Any) -> OrderIn:
    values = _read(data, _ORDER, ("source_id", "placed_at", "amount_minor", "currency"))
    values["lines"] = [LineIn(**_read(line, _LINE, ("title", "unit_minor"))) for line in values.get("lines", ())]
    return OrderIn(**values)


def _event(data: Any) -> EventIn:
    return EventIn(**_read(data, _EVENT, ("name", "occurred_at", "source_id")))


def _batch(body: Any, name: str, read: Callable[[Any], Any], record: Callable[..., list[Result]]) -> Response:
    """Read every item by itself, write the good ones at once, answer each in its place."""
    items = body.get(name) if isinstance(body, dict) else None
    source = body.get("source", SOURCE) if isinstance(body, dict) else None
    if not isinstance(items, list) or not isinstance(source, str) or not source.strip():
        raise InvalidInput(
            _('Send {"source": "shop", "%(name)s": [...]}, with the items in the list.') % {"name": name},
            code="invalid",
        )
    if len(items) > MOST_ITEMS:
        raise InvalidInput(
            _("%(count)d items are more than a batch takes. Send at most %(most)d at once.")
            % {"count": len(items), "most": MOST_ITEMS},
            code="batch_too_large",
            status=413,
        )
    results: dict[int, Result] = {}
    good: list[tuple[int, Any]] = []
    for index, item in enumerate(items):
        try:
            good.append((index, read(item)))
        except DomainError as problem:
            ref = item.get("source_id", "") if isinstance(item, dict) else ""
            results[index] = Result.refused(index, ref, problem)
    for (index, _item), result in zip(good, record([item for _i, item in good], source=source), strict=True):
        result.index = index
        results[index] = result
    counts = Counter(str(result.status) for result in results.values())
    return Response(
        {
            "created": counts["created"],
            "duplicate": counts["duplicate"],
            "error": counts["error"],
            "results": ResultOut([results[index] for index in sorted(results)], many=True).data,
        }
    )


# --- Filters ---------------------------------------------------------------------------------------------------------


class OrderFilter(OfCustomer):
    source = django_filters.CharFilter(label="The system it came from.")
    source_id = django_filters.CharFilter(label="Its number there.")
    status = django_filters.ChoiceFilter(choices=Order.Status.choices, label="State.")
    placed_from = django_filters.IsoDateTimeFilter(
        field_name="placed_at", lookup_expr="gte", label="Placed at or after this moment."
    )
    placed_before = django_filters.IsoDateTimeFilter(
        field_name="placed_at", lookup_expr="lt", label="Placed before this moment."
    )

    class Meta:
        model = Order
        fields: list[str] = []


class EventFilter(OfCustomer):
    name = django_filters.CharFilter(label="Name of the event.")
    source = django_filters.CharFilter(label="The system it came from.")
    occurred_from = django_filters.IsoDateTimeFilter(
        field_name="occurred_at", lookup_expr="gte", label="Happened at or after this moment."
    )
    occurred_before = django_filters.IsoDateTimeFilter(
        field_name="occurred_at", lookup_expr="lt", label="Happened before this moment."
    )

    class Meta:
        model = Event
        fields: list[str] = []


# --- Views -----------------------------------------------------------------------------------------------------------


@described("Orders", "One order", tag="orders")
class OrderViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Purchases, once per source and number."""

    scope = "orders"
    queryset = Order.objects.prefetch_related(models.Prefetch("lines", OrderLine.objects.select_related("product")))
    serializer_class = OrderOut
    filterset_class = OrderFilter
    lookup_value_converter = "int"

    @extend_schema(
        summary="Record an order",
        tags=["orders"],
        request=OrderBody,
        responses={201: OrderOut, 200: OpenApiResponse(OrderOut, description="It was there; nothing changed.")},
    )
    def create(self, request: Request) -> Response:
        body = OrderBody(data=request.data)
        body.is_valid(raise_exception=True)
        given = dict(body.validated_data)
        source, lines = given.pop("source"), [LineIn(**line) for line in given.pop("lines", [])]
        result = only(ingest.record_orders([OrderIn(**given, lines=lines)], source=source))
        return _answer(self, result)

    @extend_schema(
        summary="Record many orders",
        description=f"At most {MOST_ITEMS} at once; each item gets its own answer.",
        tags=["orders"],
        request=OrderBatch,
        responses={200: BatchOut},
        filters=False,
    )
    @action(detail=False, methods=["post"], pagination_class=None)
    def batch(self, request: Request) -> Response:
        return _batch(request.data, "orders", _order, ingest.record_orders)

    @extend_schema(
        summary="Give money back for an order", tags=["orders"], request=RefundBody, responses={201: RefundOut}
    )
    @action(detail=True, methods=["post"])
    def refund(self, request: Request, pk: int) -> Response:
        body = RefundBody(data=request.data)
        body.is_valid(raise_exception=True)
        given = dict(body.validated_data)
        known = Refund.objects.filter(source=given["source"], source_id=given["source_id"]).exists()
        row = ingest.refund(order=self.get_object(), **given)
        return Response(RefundOut(row).data, status=status.HTTP_200_OK if known else status.HTTP_201_CREATED)


def _answer(view: GenericViewSet, result: Result) -> Response:
    """The row an item became: 201 when it is new, 200 when it was there."""
    row = view.get_queryset().get(pk=result.id)
    code = status.HTTP_201_CREATED if result.status == Status.CREATED else status.HTTP_200_OK
    return Response(view.get_serializer(row).data, status=code)


@described("Events", "One event", tag="events")
class EventViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """What customers did, once per source and id."""

    scope = "events"
    queryset = Event.objects.all()
    serializer_class = EventOut
    filterset_class = EventFilter
    lookup_value_converter = "int"

    @extend_schema(
        summary="Record an event",
        tags=["events"],
        request=EventBody,
        responses={201: EventOut, 200: OpenApiResponse(EventOut, description="It was there; nothing changed.")},
    )
    def create(self, request: Request) -> Response:
        body = EventBody(data=request.data)
        body.is_valid(raise_exception=True)
        given = dict(body.validated_data)
        source = given.pop("source")
        result = only(ingest.record_events([EventIn(**given)], source=source))
        return _answer(self, result)

    @extend_schema(
        summary="Record many events",
        description=f"At most {MOST_ITEMS} at once; each item gets its own answer.",
        tags=["events"],
        request=EventBatch,
        responses={200: BatchOut},
        filters=False,
    )
    @action(detail=False, methods=["post"], pagination_class=None)
    def batch(self, request: Request) -> Response:
        return _batch(request.data, "events", _event, ingest.record_events)


ROUTES = [
    ("orders", OrderViewSet, "order"),
    ("events", EventViewSet, "event"),
]
