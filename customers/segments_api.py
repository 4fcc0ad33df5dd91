"""REST: segments. Scope noun ``segments``; the same verbs and the same counts as the pages."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models.expressions import RawSQL
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from customers import counting, finding, membership, segments, sentences
from customers.conditions import Condition
from customers.models import Customer, Segment
from lifecycle_crm.accounts.callers import need
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib.api import BIGGEST_ID, described
from lifecycle_crm.lib.errors import DomainError, InvalidInput


class SegmentOut(serializers.ModelSerializer):
    condition = serializers.JSONField(help_text="The tree in force; of a static list it says nothing.")
    owner = serializers.CharField(source="owner.email", allow_null=True, default=None)
    members = serializers.IntegerField(allow_null=True, help_text="As counted at counted_at.")

    class Meta:
        model = Segment
        fields = [
            "id", "key", "name", "kind", "condition", "version", "note", "owner", "members", "is_exact", "counted_at",
            "archived_at", "created_at",
        ]  # fmt: skip
        read_only_fields = fields


class SegmentBody(serializers.Serializer):
    name = serializers.CharField(max_length=120)
    key = serializers.CharField(default="", allow_blank=True, max_length=60, help_text="Left out: made from the name.")
    kind = serializers.ChoiceField(choices=Segment.Kind.choices, default=Segment.Kind.LIVE)
    condition = serializers.JSONField(required=False, help_text='Such as {"fact": "orders", "op": "gte", "value": 2}.')
    note = serializers.CharField(default="", allow_blank=True, max_length=500)


class SegmentChangeBody(serializers.Serializer):
    name = serializers.CharField(required=False, max_length=120)
    condition = serializers.JSONField(required=False)
    note = serializers.CharField(required=False, allow_blank=True, max_length=500)
    version = serializers.IntegerField(
        required=False, min_value=0, help_text="The version you read; refused when somebody saved another since."
    )
    archived = serializers.BooleanField(
        required=False, help_text="True: out of use; refused with 409 while something names it, listed in used_in."
    )


class CountBody(serializers.Serializer):
    condition = serializers.JSONField()


class CountOut(serializers.Serializer):
    value = serializers.IntegerField()
    is_exact = serializers.BooleanField(help_text="False: estimated from a sample, because counting took too long.")
    n_sampled = serializers.IntegerField(help_text="People asked for an estimate.")
    low = serializers.IntegerField(help_text="95 % sure to be at least this.")
    high = serializers.IntegerField()
    reachable = serializers.IntegerField(help_text="Who agreed to offers by e-mail.")
    stages = serializers.DictField(child=serializers.IntegerField())
    spend_minor = serializers.IntegerField()
    sentence = serializers.CharField(help_text="The condition in the language of the request.")


class MemberOut(serializers.ModelSerializer):
    customer = serializers.IntegerField(source="pk")
    stage = serializers.CharField(source="facts.stage", default="")

    class Meta:
        model = Customer
        fields = ["customer", "stage"]
        read_only_fields = fields


class MembersBody(serializers.Serializer):
    add = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=BIGGEST_ID), default=list, max_length=10_000
    )
    remove = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=BIGGEST_ID), default=list, max_length=10_000
    )


class MembersOut(serializers.Serializer):
    added = serializers.IntegerField()
    removed = serializers.IntegerField()


class ExplainOut(serializers.Serializer):
    customer = serializers.IntegerField()
    is_in = serializers.BooleanField()
    because = serializers.CharField(help_text="What decided it, in the language of the request.")


class UnknownCustomer(DomainError):
    code = "unknown_customer"
    status = 404


def _counted(condition: Condition) -> dict[str, Any]:
    found = counting.measure(condition)
    count = found.count
    return {
        "value": count.value, "is_exact": count.is_exact, "n_sampled": count.n_sampled, "low": count.low,
        "high": count.high, "reachable": found.reachable, "stages": found.stages, "spend_minor": found.spend_minor,
        "sentence": sentences.say(condition),
    }  # fmt: skip


@described("Segments", "One segment", tag="segments")
class SegmentViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Groups of people: by a condition (live) or by a list (static)."""

    scope = "segments"
    queryset = Segment.objects.select_related("owner")
    serializer_class = SegmentOut
    lookup_field = "key"
    lookup_value_regex = "[-a-zA-Z0-9_]{1,60}"

    @extend_schema(summary="Make a segment", tags=["segments"], request=SegmentBody, responses={201: SegmentOut})
    def create(self, request: Request) -> Response:
        actor = need(request, User.may_steer)
        body = SegmentBody(data=request.data)
        body.is_valid(raise_exception=True)
        made = segments.create(**body.validated_data, actor=actor)
        return Response(SegmentOut(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(summary="Change a segment", tags=["segments"], request=SegmentChangeBody)
    def partial_update(self, request: Request, key: str) -> Response:
        actor = need(request, User.may_steer)
        body = SegmentChangeBody(data=request.data)
        body.is_valid(raise_exception=True)
        segment, given = segments.get(key), dict(body.validated_data)
        archived = given.pop("archived", None)
        with transaction.atomic():
            if archived is False:
                segment = segments.restore(segment=segment)
            if given:
                segment = segments.edit(segment=segment, **given, actor=actor)
            if archived:
                segment = segments.archive(segment=segment)
        return Response(SegmentOut(segment).data)

    @extend_schema(
        summary="Count a condition",
        description="Exact when it takes no longer than a second and a half, else an estimate that says so.",
        tags=["segments"],
        request=CountBody,
        responses={200: CountOut},
    )
    @action(detail=False, methods=["post"], pagination_class=None)
    def count(self, request: Request) -> Response:
        body = CountBody(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(_counted(segments.read(body.validated_data["condition"])))

    @extend_schema(
        summary="Who is in a segment",
        description="Customers by id. With on, who was in it at the end of that date, as its night recorded it.",
        tags=["segments"],
        parameters=[OpenApiParameter("on", str, description="A date such as 2026-03-01.")],
        responses={200: MemberOut(many=True)},
    )
    @action(detail=True, methods=["get"])
    def members(self, request: Request, key: str) -> Response:
        segment = segments.get(key)
        if text := request.query_params.get("on"):
            try:
                on = serializers.DateField().to_internal_value(text)
            except serializers.ValidationError:
                raise InvalidInput(_("on: write a date such as 2026-03-01."), field="on") from None
            sql, params = membership.members_on(segment, on)
        else:
            sql, params = segments.matching(segments.condition_of(segment))
        rows = Customer.objects.select_related("facts").filter(pk__in=RawSQL(sql, params))
        return self.get_paginated_response(MemberOut(self.paginate_queryset(rows), many=True).data)

    @extend_schema(
        summary="Put people on a static list, or take them off",
        tags=["segments"],
        request=MembersBody,
        responses={200: MembersOut},
    )
    @members.mapping.post
    def change_members(self, request: Request, key: str) -> Response:
        actor = need(request, User.may_steer)
        body = MembersBody(data=request.data)
        body.is_valid(raise_exception=True)
        segment, given = segments.get(key), body.validated_data
        added = segments.add_members(segment=segment, customers=given["add"], actor=actor)
        removed = segments.remove_members(segment=segment, customers=given["remove"])
        return Response({"added": added, "removed": removed})

    @extend_schema(
        summary="Is a customer in a segment, and why",
        tags=["segments"],
        parameters=[OpenApiParameter("customer", int, required=True, description="Id of the customer.")],
        responses={200: ExplainOut},
    )
    @action(detail=True, methods=["get"], pagination_class=None)
    def explain(self, request: Request, key: str) -> Response:
        segment, text = segments.get(key), request.query_params.get("customer", "")
        someone = finding.numbered(text)
        if someone is None:
            raise UnknownCustomer(_("There is no customer with this id."))
        told = segments.explain(segments.condition_of(segment), someone)
        return Response({"customer": someone.pk, "is_in": told.is_in, "because": told.because})


ROUTES = [("segments", SegmentViewSet, "segment")]
