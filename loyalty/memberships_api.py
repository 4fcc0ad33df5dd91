"""REST: who is in a programme, from when to when, and what they paid. Scope noun ``programmes``."""

from __future__ import annotations

import django_filters
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from lifecycle_crm.lib.api import BIGGEST_ID, OfCustomer, described
from loyalty import callers
from loyalty import programme as programmes
from loyalty.models import Membership, Programme
from loyalty.programme_api import REFUSED


class MembershipOut(serializers.ModelSerializer):
    programme = serializers.CharField(source="programme.key", read_only=True)

    class Meta:
        model = Membership
        fields = [
            "id", "programme", "customer", "number", "joined_at", "ends_at", "left_at", "paid_minor", "renewals",
        ]  # fmt: skip
        read_only_fields = fields


class PaidIn(serializers.Serializer):
    paid_minor = serializers.IntegerField(default=0, min_value=0, max_value=10**9)


class JoinIn(PaidIn):
    programme = serializers.SlugRelatedField("key", queryset=Programme.objects.all(), help_text="Key of the programme.")
    customer = serializers.IntegerField(min_value=1, max_value=BIGGEST_ID, help_text="Id of the customer.")
    joined_at = serializers.DateTimeField(required=False)
    number = serializers.CharField(required=False, max_length=40, help_text="Of a card that exists; left out: made.")


class MembershipFilter(OfCustomer):
    programme = django_filters.CharFilter(field_name="programme__key", label="Key of the programme.")
    number = django_filters.CharFilter(label="Number of the card.")

    class Meta:
        model = Membership
        fields: list[str] = []


@described("Memberships", "One membership", tag="programmes")
class MembershipViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Who joined which programme, until when, and the number of their card."""

    scope = "programmes"
    queryset = Membership.objects.select_related("programme")
    serializer_class = MembershipOut
    filterset_class = MembershipFilter

    @extend_schema(
        summary="Let a customer join",
        tags=["programmes"],
        request=JoinIn,
        responses={201: MembershipOut, **REFUSED},
        parameters=[callers.IDEMPOTENCY],
    )
    def create(self, request: Request) -> Response:
        key = callers.key(request)
        body = JoinIn(data=request.data)
        body.is_valid(raise_exception=True)
        given = dict(body.validated_data)
        customer = callers.known_customer(given.pop("customer"))
        made = programmes.join(customer=customer, key=key, actor=callers.person(request), **given)
        return Response(MembershipOut(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Renew a membership",
        tags=["programmes"],
        request=PaidIn,
        responses={200: MembershipOut, **REFUSED},
        parameters=[callers.IDEMPOTENCY],
    )
    @action(detail=True, methods=["post"])
    def renew(self, request: Request, pk: str | None = None) -> Response:
        key = callers.key(request)
        body = PaidIn(data=request.data)
        body.is_valid(raise_exception=True)
        done = programmes.renew(
            membership=self.get_object(), key=key, actor=callers.person(request), **body.validated_data
        )
        return Response(MembershipOut(done).data)

    @extend_schema(summary="End a membership", tags=["programmes"], request=None, responses={200: MembershipOut})
    @action(detail=True, methods=["post"])
    def leave(self, request: Request, pk: str | None = None) -> Response:
        done = programmes.leave(membership=self.get_object(), actor=callers.person(request))
        return Response(MembershipOut(done).data)


ROUTES = [("memberships", MembershipViewSet, "membership")]
