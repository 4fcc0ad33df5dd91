"""REST: points that may be used longer. Scope noun ``points``; making and undoing need an ``Idempotency-Key``."""

from __future__ import annotations

from datetime import date
from typing import Any

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from lifecycle_crm.lib import clock
from lifecycle_crm.lib.api import BIGGEST_ID, described
from lifecycle_crm.lib.errors import NotFound
from loyalty import callers, ledger, queries
from loyalty.models import Extension, Programme


class ExtensionOut(serializers.ModelSerializer):
    until = serializers.SerializerMethodField(help_text="The last day on which the points can be used.")

    class Meta:
        model = Extension
        fields = ["id", "programme", "until", "customers", "points", "reason", "undoes", "actor", "recorded_at"]
        read_only_fields = fields

    def get_until(self, row: Extension) -> date:
        return row.until


class ExtensionIn(serializers.Serializer):
    until = serializers.DateField(help_text="The last day on which they can be used, in the shop's zone.")
    reason = serializers.CharField(max_length=300, help_text="Stays with the extension.")
    customers = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=BIGGEST_ID),
        min_length=1,
        max_length=500,
        required=False,
        help_text="Ids of the customers; left out: everybody.",
    )
    ends_from = serializers.DateField(required=False, help_text="Only points whose last day is this one or later.")
    ends_to = serializers.DateField(required=False, help_text="Only points whose last day is this one or earlier.")
    programme = serializers.SlugField(required=False, help_text="Default: the main programme.")


class ExtensionUndoIn(serializers.Serializer):
    reason = serializers.CharField(max_length=300, help_text="Stays with it.")


REFUSED = {
    200: OpenApiResponse(ExtensionOut, description="This request was made before; nothing changed now."),
    400: OpenApiResponse(description="The Idempotency-Key is missing, or a field is wrong."),
    409: OpenApiResponse(description="No points would be used longer, or nothing is left to take back."),
    422: OpenApiResponse(description="The Idempotency-Key belongs to another request, or the day is not allowed."),
}


def _answer(row: Extension) -> Response:
    if row.replayed:
        return Response(ExtensionOut(row).data, headers={"Idempotency-Replayed": "true"})
    return Response(ExtensionOut(row).data, status=status.HTTP_201_CREATED)


@described("Extensions of points", "One extension", tag="points")
class ExtensionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Decisions that points may be used longer, the last first. Nothing moves by them; what is over stays over."""

    scope = "points"
    queryset = queries.extensions()
    serializer_class = ExtensionOut

    @extend_schema(
        summary="Let points be used longer",
        description=(
            "All points of everybody, of some customers, or of a span of last days, that would end before `until`. "
            "A person needs the role that sets up programmes."
        ),
        tags=["points"],
        request=ExtensionIn,
        responses={201: ExtensionOut, **REFUSED},
        parameters=[callers.IDEMPOTENCY],
    )
    def create(self, request: Request) -> Response:
        callers.check_may_set_up(request)
        key = callers.key(request)
        body = ExtensionIn(data=request.data)
        body.is_valid(raise_exception=True)
        given: dict[str, Any] = body.validated_data
        programme = None
        if "programme" in given:
            programme = Programme.objects.filter(key=given["programme"]).first()
            if programme is None:
                raise NotFound("There is no programme with this key.", code="unknown_programme")
        people = given.get("customers")
        first, last = given.get("ends_from"), given.get("ends_to")
        return _answer(
            ledger.extend(
                expires_at=clock.day_end(given["until"]),
                key=key,
                actor=callers.person(request),
                reason=given["reason"],
                customers=None if people is None else callers.known_customers(people),
                ends_from=clock.day_start(first) if first else None,
                ends_before=clock.day_end(last) if last else None,
                programme=programme,
            )
        )

    @extend_schema(
        summary="Take an extension back",
        description="What is left of the points ends as it would have; where that day has passed, nothing changes.",
        tags=["points"],
        request=ExtensionUndoIn,
        responses={201: ExtensionOut, **REFUSED},
        parameters=[callers.IDEMPOTENCY],
    )
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, pk: str | None = None) -> Response:
        callers.check_may_set_up(request)
        key = callers.key(request)
        body = ExtensionUndoIn(data=request.data)
        body.is_valid(raise_exception=True)
        return _answer(
            ledger.take_back_extension(
                extension=self.get_object(), key=key, actor=callers.person(request), **body.validated_data
            )
        )


ROUTES: list[tuple[str, Any, str]] = [("extensions", ExtensionViewSet, "extension")]
