"""REST: referrals. Scope noun ``referrals``."""

from __future__ import annotations

from typing import Any

import django_filters
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet, ViewSet

from lifecycle_crm.lib.api import described
from loyalty import callers, referrals
from loyalty.models import Referral


class ReferralOut(serializers.ModelSerializer):
    programme = serializers.SlugRelatedField("key", read_only=True, help_text="Key of the programme.")
    doubts = serializers.ListField(child=serializers.CharField(), help_text="Checks that were not content.")

    class Meta:
        model = Referral
        fields = [
            "id", "programme", "advocate", "friend", "state", "doubts", "order", "reason", "created_at", "decided_at",
            "decided_by",
        ]  # fmt: skip
        read_only_fields = fields


class ClaimIn(serializers.Serializer):
    code = serializers.CharField(max_length=40, help_text="The code of who recommends.")
    email = serializers.EmailField(max_length=254, help_text="Of the friend, who orders with it.")
    phone = serializers.CharField(default="", allow_blank=True, max_length=20, help_text="E.164, if known.")
    ip = serializers.IPAddressField(required=False, help_text="Of the friend, if known. Kept as a digest.")
    device = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=200,
        help_text="Any stable id of the device, if known. Kept as a digest.",
    )


class RefuseIn(serializers.Serializer):
    reason = serializers.CharField(max_length=300)


class ReferralCodeOut(serializers.Serializer):
    customer = serializers.IntegerField()
    code = serializers.CharField()
    url = serializers.URLField(help_text="The public page to pass on.")


class ReferralFilter(django_filters.FilterSet):
    advocate = django_filters.NumberFilter(label="Id of who recommends.")
    friend = django_filters.NumberFilter(label="Id of the friend.")
    state = django_filters.ChoiceFilter(choices=Referral.State.choices, label="State.")

    class Meta:
        model = Referral
        fields: list[str] = []


@described("Referrals", "One referral", tag="referrals")
class ReferralViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Who brought whom, and what was thought of it."""

    scope = "referrals"
    queryset = referrals.listed()
    serializer_class = ReferralOut
    filterset_class = ReferralFilter

    @extend_schema(
        summary="Write down who was brought",
        description="Nothing is earned by it: the friend's first order decides. An address counts once.",
        tags=["referrals"],
        request=ClaimIn,
        responses={
            201: ReferralOut,
            404: OpenApiResponse(description="We do not know the code."),
            409: OpenApiResponse(description="Nothing is offered for recommendations now."),
        },
    )
    def create(self, request: Request) -> Response:
        body = ClaimIn(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(ReferralOut(referrals.claim(**body.validated_data)).data, status=status.HTTP_201_CREATED)

    @extend_schema(summary="Reward in spite of doubts", tags=["referrals"], request=None, responses={200: ReferralOut})
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str | None = None) -> Response:
        done = referrals.approve(referral=self.get_object(), actor=callers.person(request))
        return Response(ReferralOut(done).data)

    @extend_schema(summary="Refuse", tags=["referrals"], request=RefuseIn, responses={200: ReferralOut})
    @action(detail=True, methods=["post"])
    def refuse(self, request: Request, pk: str | None = None) -> Response:
        body = RefuseIn(data=request.data)
        body.is_valid(raise_exception=True)
        done = referrals.refuse(referral=self.get_object(), actor=callers.person(request), **body.validated_data)
        return Response(ReferralOut(done).data)


class ReferralCodeViewSet(ViewSet):
    """The code of a customer; made when it is first asked for."""

    scope = "referrals"
    lookup_field = "customer"
    lookup_value_regex = "[0-9]{1,18}"

    @extend_schema(summary="A customer's code and link", tags=["referrals"], responses={200: ReferralCodeOut})
    def retrieve(self, request: Request, customer: str) -> Response:
        of = referrals.code(callers.known_customer(int(customer)))
        return Response({"customer": of.customer_id, "code": of.code, "url": referrals.url(of)})


ROUTES: list[tuple[str, Any, str]] = [
    ("referrals", ReferralViewSet, "referral"),
    ("referral-codes", ReferralCodeViewSet, "referral-code"),
]
