"""REST: sign-offs of what is owed. Scope noun ``points``; only a person signs, with an ``Idempotency-Key``."""

from __future__ import annotations

from typing import Any

import django_filters
from django.core.exceptions import PermissionDenied
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from lifecycle_crm.lib.api import BIGGEST_ID, described
from lifecycle_crm.lib.errors import NotFound
from loyalty import callers, signoffs
from loyalty.models import Programme, SignOff


class SignOffOut(serializers.ModelSerializer):
    points = serializers.IntegerField(help_text="Points that could be redeemed then or later.")
    expected_minor = serializers.IntegerField(
        allow_null=True, help_text="Worth of what was expected to be redeemed; null: nothing was assumed."
    )
    replaced_by = serializers.SerializerMethodField(help_text="The note that replaced this one, if any.")

    class Meta:
        model = SignOff
        fields = [
            "id", "programme", "day", "note", "points", "pending", "available", "held", "debt", "liability_minor",
            "currency", "value_minor_per_100", "redeemed_percent", "expected_minor", "replaces", "reason", "replaced_by",
            "signed_by", "signed_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_replaced_by(self, row: SignOff) -> int | None:
        found = getattr(row, "replaced_by", None)
        return found.pk if found else None


class SignOffDriftOut(serializers.Serializer):
    points = serializers.IntegerField(help_text="Read today, so many points more; 0: still the same.")
    minor = serializers.IntegerField(help_text="Read today, so much more, in minor units.")


class SignOffDetailOut(SignOffOut):
    """One note says how its figures would differ today; in a list that would read the ledger once for each."""

    drift = serializers.SerializerMethodField(help_text="How the figures of this date would differ today.")

    class Meta(SignOffOut.Meta):
        fields = [*SignOffOut.Meta.fields, "drift"]
        read_only_fields = fields

    @extend_schema_field(SignOffDriftOut)
    def get_drift(self, row: SignOff) -> dict[str, Any]:
        return SignOffDriftOut(signoffs.drift(row)).data


class SignOffIn(serializers.Serializer):
    day = serializers.DateField(help_text="A day that is over; its end in the shop's zone.")
    note = serializers.CharField(max_length=500)
    programme = serializers.IntegerField(
        min_value=1, max_value=BIGGEST_ID, required=False, help_text="Default: the main programme."
    )
    redeemed_percent = serializers.IntegerField(
        min_value=1, max_value=100, required=False, help_text="Expected redemption that was assumed."
    )
    reason = serializers.CharField(
        max_length=300, required=False, allow_blank=True, help_text="Why it replaces the note that holds."
    )


class SignOffFilter(django_filters.FilterSet):
    programme = django_filters.NumberFilter(min_value=1, max_value=BIGGEST_ID, label="Id of the programme.")
    day = django_filters.DateFilter(label="The date.")

    class Meta:
        model = SignOff
        fields: list[str] = []


@described("Sign-offs of what is owed", "One sign-off", tag="points")
class SignOffViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Figures as they were when somebody signed them. None is ever changed; a new one replaces the old, which stays."""

    scope = "points"
    queryset = signoffs.rows()
    filterset_class = SignOffFilter

    def get_serializer_class(self) -> type[serializers.BaseSerializer]:
        return SignOffDetailOut if self.action == "retrieve" else SignOffOut

    @extend_schema(
        summary="Sign what is owed",
        description="Only an owner or an admin, signed in; an API key cannot sign.",
        tags=["points"],
        request=SignOffIn,
        responses={
            201: SignOffOut,
            200: OpenApiResponse(SignOffOut, description="This request was made before; nothing changed now."),
            409: OpenApiResponse(
                description="The date is signed already, and no reason says why this one replaces it."
            ),
            422: OpenApiResponse(description="The Idempotency-Key belongs to another request, or the day is not over."),
        },
        parameters=[callers.IDEMPOTENCY],
    )
    def create(self, request: Request) -> Response:
        user = callers.person(request)
        if user is None or not signoffs.may_sign(user):
            raise PermissionDenied
        key = callers.key(request)
        body = SignOffIn(data=request.data)
        body.is_valid(raise_exception=True)
        given = dict(body.validated_data)
        wanted = given.pop("programme", None)
        programme = Programme.current() if wanted is None else Programme.objects.filter(pk=wanted).first()
        if programme is None:
            raise NotFound("There is no such programme.", code="unknown_programme")
        made = signoffs.sign(programme=programme, key=key, actor=user, **given)
        answer = SignOffOut(made, context=self.get_serializer_context()).data
        if made.replayed:
            return Response(answer, headers={"Idempotency-Replayed": "true"})
        return Response(answer, status=status.HTTP_201_CREATED)


ROUTES: list[tuple[str, type[GenericViewSet], str]] = [("sign-offs", SignOffViewSet, "sign-off")]
