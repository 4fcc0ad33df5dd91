"""REST: points for a set of people. Scope noun ``points``; asking and undoing need an ``Idempotency-Key``."""

from __future__ import annotations

from typing import Any

import django_filters
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from customers import segments
from lifecycle_crm.lib.api import BIGGEST_ID, described
from lifecycle_crm.lib.errors import InvalidInput, NotFound
from loyalty import callers, grants, ledger, queries
from loyalty.models import Grant, GrantPerson, Programme, Tier


class GrantOut(serializers.ModelSerializer):
    total = serializers.IntegerField(help_text="What it came to when it was asked for.")
    worth_minor = serializers.IntegerField(help_text="That total in minor units of the shop's currency.")

    class Meta:
        model = Grant
        fields = [
            "id", "programme", "points", "people", "total", "worth_minor", "reason", "whom", "whom_key", "whom_name",
            "state", "requested_by", "requested_at", "finished_at", "undo_reason", "undone_by", "undone_at",
        ]  # fmt: skip
        read_only_fields = fields


class GrantProgressOut(serializers.Serializer):
    waiting = serializers.IntegerField()
    given = serializers.IntegerField(help_text="People who have been given the points and still have them.")
    taken = serializers.IntegerField(help_text="People from whom they were taken back.")
    kept = serializers.IntegerField(help_text="People from whom nothing was left to take back.")
    left_out = serializers.DictField(
        child=serializers.IntegerField(), help_text="How many got nothing: stranger, frozen, merged."
    )
    taken_points = serializers.IntegerField(help_text="Points taken back, with what became a debt.")


class GrantDetailOut(GrantOut):
    progress = serializers.SerializerMethodField(help_text="How far it is.")

    class Meta(GrantOut.Meta):
        fields = [*GrantOut.Meta.fields, "progress"]
        read_only_fields = fields

    @extend_schema_field(GrantProgressOut)
    def get_progress(self, row: Grant) -> dict[str, Any]:
        return GrantProgressOut(grants.progress(row)).data


class GrantPersonOut(serializers.ModelSerializer):
    class Meta:
        model = GrantPerson
        fields = ["customer", "state", "why"]
        read_only_fields = fields


class GrantWhomIn(serializers.Serializer):
    """Exactly one of ``segment``, ``tier`` and ``customers``."""

    points = serializers.IntegerField(min_value=1, max_value=ledger.MOST_POINTS, help_text="For each of them.")
    segment = serializers.SlugField(max_length=60, required=False, help_text="Key of a segment: who is in it now.")
    tier = serializers.SlugField(max_length=40, required=False, help_text="Key of a tier: who stands in it now.")
    customers = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=BIGGEST_ID),
        min_length=1,
        max_length=grants.MOST_LISTED,
        required=False,
        help_text="Ids of customers.",
    )
    programme = serializers.SlugField(required=False, help_text="Default: the main programme.")


class GrantIn(GrantWhomIn):
    reason = serializers.CharField(max_length=300, help_text="Stays in the history of each of them.")
    at_most = serializers.IntegerField(
        min_value=1, required=False, help_text="Refuse where it comes to more points than this by now."
    )


class GrantPreviewOut(serializers.Serializer):
    people = serializers.IntegerField(help_text="Who would get points.")
    left_out = serializers.DictField(
        child=serializers.IntegerField(), help_text="How many would get nothing: stranger, frozen, merged."
    )
    total = serializers.IntegerField(help_text="Points together.")
    worth_minor = serializers.IntegerField(help_text="The total in minor units of the shop's currency.")
    needs_second = serializers.BooleanField(help_text="Whether somebody else would have to agree.")


class GrantUndoIn(serializers.Serializer):
    reason = serializers.CharField(max_length=300, help_text="Stays with it.")


class GrantFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=Grant.State.choices, label="State.")

    class Meta:
        model = Grant
        fields: list[str] = []


REFUSED = {
    200: OpenApiResponse(GrantOut, description="This request was made before; nothing changed now."),
    400: OpenApiResponse(description="The Idempotency-Key is missing, or a field is wrong."),
    409: OpenApiResponse(description="Nobody in the set can get points, more came into it, or it is not given yet."),
    422: OpenApiResponse(description="The Idempotency-Key belongs to another request, or a value is not allowed."),
}


def _programme(given: dict[str, Any]) -> Programme | None:
    if "programme" not in given:
        return Programme.current()
    found = Programme.objects.filter(key=given["programme"]).first()
    if found is None:
        raise NotFound("There is no programme with this key.", code="unknown_programme")
    return found


def _whom(given: dict[str, Any], programme: Programme | None) -> grants.Whom:
    asked = [name for name in ("segment", "tier", "customers") if name in given]
    if len(asked) != 1:
        raise InvalidInput("Name one of segment, tier and customers.", code="invalid_selection")
    if "segment" in given:
        return grants.of_segment(segments.get(given["segment"]))
    if "tier" in given:
        tier = Tier.objects.filter(programme=programme, key=given["tier"]).first()
        if tier is None:
            raise NotFound("This programme has no tier with this key.", code="unknown_tier")
        return grants.of_tier(tier)
    return grants.of_list(one.pk for one in callers.known_customers(given["customers"]))


def _answer(row: Grant, new: int) -> Response:
    if row.replayed:
        return Response(GrantOut(row).data, headers={"Idempotency-Replayed": "true"})
    return Response(GrantOut(row).data, status=new)


@described("Points for many", "Points for many, with how far it is", tag="points")
class GrantViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Points given to sets of people. The worker gives them; the set is fixed when it is asked for."""

    scope = "points"
    queryset = queries.grants()
    filterset_class = GrantFilter

    def get_serializer_class(self) -> type[serializers.BaseSerializer]:
        return GrantDetailOut if self.action == "retrieve" else GrantOut

    @extend_schema(
        summary="Give points to many",
        description=(
            "Points for everybody of a segment, a tier or a list. Above the programme's limit, which is for the total, "
            "`state` is `waiting` until a second person says yes under `approvals`; else the worker begins at once. A "
            "person needs the role that sets up programmes."
        ),
        tags=["points"],
        request=GrantIn,
        responses={201: GrantOut, **REFUSED},
        parameters=[callers.IDEMPOTENCY],
    )
    def create(self, request: Request) -> Response:
        callers.check_may_set_up(request)
        key = callers.key(request)
        body = GrantIn(data=request.data)
        body.is_valid(raise_exception=True)
        given: dict[str, Any] = body.validated_data
        programme = _programme(given)
        made = grants.ask(
            whom=_whom(given, programme),
            points=given["points"],
            key=key,
            actor=callers.person(request),
            reason=given["reason"],
            at_most=given.get("at_most"),
            programme=programme,
            **callers.source(request),
        )
        return _answer(made, status.HTTP_201_CREATED)

    @extend_schema(
        summary="What points for many would come to",
        description="Nothing is given.",
        tags=["points"],
        request=GrantWhomIn,
        responses={200: GrantPreviewOut},
    )
    @action(detail=False, methods=["post"])
    def preview(self, request: Request) -> Response:
        callers.check_may_set_up(request)
        body = GrantWhomIn(data=request.data)
        body.is_valid(raise_exception=True)
        given: dict[str, Any] = body.validated_data
        programme = _programme(given)
        found = grants.preview(
            whom=_whom(given, programme), points=given["points"], actor=callers.person(request), programme=programme
        )
        return Response(GrantPreviewOut(found).data)

    @extend_schema(
        summary="Take points for many back",
        description="From everybody who got them, by the worker. What somebody spent becomes a debt.",
        tags=["points"],
        request=GrantUndoIn,
        responses={202: GrantOut, **REFUSED},
        parameters=[callers.IDEMPOTENCY],
    )
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, pk: str | None = None) -> Response:
        callers.check_may_set_up(request)
        key = callers.key(request)
        body = GrantUndoIn(data=request.data)
        body.is_valid(raise_exception=True)
        done = grants.undo(grant=self.get_object(), key=key, actor=callers.person(request), **body.validated_data)
        return _answer(done, status.HTTP_202_ACCEPTED)

    @extend_schema(
        summary="The people of points for many",
        tags=["points"],
        filters=False,
        responses={200: GrantPersonOut(many=True)},
    )
    @action(detail=True)
    def people(self, request: Request, pk: str | None = None) -> Response:
        found = GrantPerson.objects.filter(grant=self.get_object()).order_by("-pk")
        page = self.paginate_queryset(found)
        return self.get_paginated_response(GrantPersonOut(page, many=True).data)


ROUTES: list[tuple[str, Any, str]] = [("grants", GrantViewSet, "grant")]
