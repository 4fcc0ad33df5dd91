"""REST: holds, transfers, households, merges, approvals, budgets and frozen accounts. Scope noun ``points``.

Whatever moves points needs an ``Idempotency-Key``. What needs a second person, or a person at all, a key cannot decide.
"""

from __future__ import annotations

from typing import Any

import django_filters
from django.core.exceptions import PermissionDenied
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet, ViewSet

from lifecycle_crm.lib.api import BIGGEST_ID, OfCustomer, described
from loyalty import approvals, callers, goodwill, ledger, queries
from loyalty.models import Approval, Freeze, Hold, Household, Merge, Transfer


def _customer_field(what: str) -> serializers.IntegerField:
    return serializers.IntegerField(min_value=1, max_value=BIGGEST_ID, help_text=what)


def _points_field(what: str, **more: Any) -> serializers.IntegerField:
    return serializers.IntegerField(min_value=1, max_value=ledger.MOST_POINTS, help_text=what, **more)


def _reason_field(**more: Any) -> serializers.CharField:
    return serializers.CharField(max_length=300, help_text="Stays in the customer's history.", **more)


REFUSED = {
    400: OpenApiResponse(description="The Idempotency-Key is missing, or a field is wrong."),
    409: OpenApiResponse(description="Not enough points, frozen, or it ended already."),
    422: OpenApiResponse(description="The Idempotency-Key belongs to another request, or a value is not allowed."),
}


def _answer(out: type[serializers.Serializer], row: Any, new: int = status.HTTP_201_CREATED) -> Response:
    if row.replayed:
        return Response(out(row).data, headers={"Idempotency-Replayed": "true"})
    return Response(out(row).data, status=new)


def _decider(request: Request) -> Any:
    """The person who decides. Raises ``PermissionDenied`` for a key and for other roles."""
    user = callers.person(request)
    if not approvals.may_decide(user):
        raise PermissionDenied
    return user


# --- Holds ------------------------------------------------------------------------------------------------------------


class HoldOut(serializers.ModelSerializer):
    class Meta:
        model = Hold
        fields = [
            "id", "customer", "points", "state", "reason", "expires_at", "created_at", "resolved_at", "entry", "spend",
            "release", "moved_to", "actor",
        ]  # fmt: skip
        read_only_fields = fields


class HoldIn(serializers.Serializer):
    customer = _customer_field("Id of the customer.")
    points = _points_field("How many to set aside.")
    expires_at = serializers.DateTimeField(required=False, help_text="Default: the hours the programme says.")
    reason = _reason_field(default="", allow_blank=True)


class PostIn(serializers.Serializer):
    points = _points_field("Part of the hold; left out: all of it. The rest is free again.", required=False)
    reason = _reason_field(default="", allow_blank=True)


class HoldFilter(OfCustomer):
    state = django_filters.ChoiceFilter(choices=Hold.State.choices, label="State.")

    class Meta:
        model = Hold
        fields: list[str] = []


@described("Holds", "One hold", tag="points")
class HoldViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Points set aside for purchases that are not finished. A hold ends once: posted, voided or run out."""

    scope = "points"
    queryset = queries.holds()
    serializer_class = HoldOut
    filterset_class = HoldFilter

    @extend_schema(
        summary="Set points aside",
        tags=["points"],
        request=HoldIn,
        responses={201: HoldOut, **REFUSED},
        parameters=[callers.IDEMPOTENCY],
    )
    def create(self, request: Request) -> Response:
        key = callers.key(request)
        body = HoldIn(data=request.data)
        body.is_valid(raise_exception=True)
        given: dict[str, Any] = dict(body.validated_data)
        customer = callers.known_customer(given.pop("customer"))
        return _answer(HoldOut, ledger.authorise(customer=customer, key=key, actor=callers.person(request), **given))

    @extend_schema(
        summary="Redeem a hold",
        description="In whole or part. Asked again for the same points, it answers with the same redemption.",
        tags=["points"],
        request=PostIn,
        responses={200: HoldOut, **REFUSED},
    )
    @action(detail=True, methods=["post"], url_path="post", url_name="post")
    def settle(self, request: Request, pk: str | None = None) -> Response:
        body = PostIn(data=request.data)
        body.is_valid(raise_exception=True)
        spend = ledger.post_hold(hold=self.get_object(), actor=callers.person(request), **body.validated_data)
        return Response(HoldOut(Hold.objects.get(spend=spend)).data)

    @extend_schema(summary="Free a hold", tags=["points"], request=None, responses={200: HoldOut, **REFUSED})
    @action(detail=True, methods=["post"])
    def void(self, request: Request, pk: str | None = None) -> Response:
        return Response(HoldOut(ledger.void_hold(hold=self.get_object(), actor=callers.person(request))).data)


# --- Transfers, households, merges ------------------------------------------------------------------------------------


class TransferOut(serializers.ModelSerializer):
    customer = serializers.IntegerField(source="from_account.customer_id", help_text="Who gave.")
    to = serializers.IntegerField(source="to_account.customer_id", help_text="Who got.")

    class Meta:
        model = Transfer
        fields = ["id", "kind", "customer", "to", "points", "reason", "effective_at", "actor"]
        read_only_fields = fields


class TransferIn(serializers.Serializer):
    customer = _customer_field("Id of the customer who gives.")
    to = _customer_field("Id of the customer who gets.")
    points = _points_field("How many.")
    reason = _reason_field(default="", allow_blank=True)


@described("Transfers", tag="points")
class TransferViewSet(mixins.ListModelMixin, GenericViewSet):
    """Points that went from one customer to another, with their last days."""

    scope = "points"
    queryset = Transfer.objects.select_related("from_account", "to_account").order_by("-pk")
    serializer_class = TransferOut

    @extend_schema(
        summary="Give points of one customer to another",
        tags=["points"],
        request=TransferIn,
        responses={201: TransferOut, **REFUSED},
        parameters=[callers.IDEMPOTENCY],
    )
    def create(self, request: Request) -> Response:
        key = callers.key(request)
        body = TransferIn(data=request.data)
        body.is_valid(raise_exception=True)
        given: dict[str, Any] = dict(body.validated_data)
        made = ledger.transfer(
            customer=callers.known_customer(given.pop("customer")),
            to=callers.known_customer(given.pop("to")),
            key=key,
            actor=callers.person(request),
            **given,
        )
        return _answer(TransferOut, made)


class HouseholdOut(serializers.ModelSerializer):
    members = serializers.SerializerMethodField(help_text="Ids of the customers in it now.")
    pooled = serializers.SerializerMethodField(help_text="Their usable points together.")

    class Meta:
        model = Household
        fields = ["id", "name", "members", "pooled", "created_at"]
        read_only_fields = fields

    def get_members(self, row: Household) -> list[int]:
        return [one.customer_id for one, _points in queries.members(row)]

    def get_pooled(self, row: Household) -> int:
        return sum(points for _one, points in queries.members(row))


class HouseholdIn(serializers.Serializer):
    name = serializers.CharField(max_length=80)
    customers = serializers.ListField(child=_customer_field("Id of a customer."), min_length=2, max_length=50)


class MemberIn(serializers.Serializer):
    customer = _customer_field("Id of the customer.")


@described("Households", "One household", tag="points")
class HouseholdViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Customers who spend each other's points."""

    scope = "points"
    queryset = Household.objects.order_by("-pk")
    serializer_class = HouseholdOut

    @extend_schema(summary="Start a household", tags=["points"], request=HouseholdIn, responses={201: HouseholdOut})
    def create(self, request: Request) -> Response:
        body = HouseholdIn(data=request.data)
        body.is_valid(raise_exception=True)
        made = ledger.found_household(
            name=body.validated_data["name"],
            customers=[callers.known_customer(pk) for pk in body.validated_data["customers"]],
            actor=callers.person(request),
        )
        return Response(HouseholdOut(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(summary="Bring a customer in", tags=["points"], request=MemberIn, responses={200: HouseholdOut})
    @action(detail=True, methods=["post"])
    def join(self, request: Request, pk: str | None = None) -> Response:
        household, body = self.get_object(), MemberIn(data=request.data)
        body.is_valid(raise_exception=True)
        ledger.join_household(household=household, customer=callers.known_customer(body.validated_data["customer"]))
        return Response(HouseholdOut(household).data)

    @extend_schema(summary="Take a customer out", tags=["points"], request=MemberIn, responses={200: HouseholdOut})
    @action(detail=True, methods=["post"])
    def leave(self, request: Request, pk: str | None = None) -> Response:
        household, body = self.get_object(), MemberIn(data=request.data)
        body.is_valid(raise_exception=True)
        ledger.leave_household(
            customer=callers.known_customer(body.validated_data["customer"]), programme=household.programme
        )
        return Response(HouseholdOut(household).data)


class MergeOut(serializers.ModelSerializer):
    customer = serializers.IntegerField(source="from_account.customer_id", help_text="Who was merged.")
    into = serializers.IntegerField(source="into_account.customer_id")

    class Meta:
        model = Merge
        fields = [
            "id", "programme", "customer", "into", "points", "pending", "held", "debt", "reason", "recorded_at",
            "undone_at", "actor", "undone_by",
        ]  # fmt: skip
        read_only_fields = fields


class MergeIn(serializers.Serializer):
    customer = _customer_field("Id of the customer whose points move.")
    into = _customer_field("Id of the customer who gets them.")
    reason = _reason_field()


@described("Merges of points", tag="points")
class MergeViewSet(mixins.ListModelMixin, GenericViewSet):
    """Everything one customer had in points, moved to another who is the same person."""

    scope = "points"
    queryset = Merge.objects.select_related("from_account", "into_account").order_by("-pk")
    serializer_class = MergeOut

    @extend_schema(
        summary="Merge the points of two customers",
        description="One merge per programme. A person needs the role Owner or Admin.",
        tags=["points"],
        request=MergeIn,
        responses={201: MergeOut(many=True), **REFUSED},
        parameters=[callers.IDEMPOTENCY],
    )
    def create(self, request: Request) -> Response:
        key = callers.key(request)
        if callers.person(request) is not None:
            _decider(request)
        body = MergeIn(data=request.data)
        body.is_valid(raise_exception=True)
        made = ledger.merge(
            customer=callers.known_customer(body.validated_data["customer"]),
            into=callers.known_customer(body.validated_data["into"]),
            reason=body.validated_data["reason"],
            key=key,
            actor=callers.person(request),
        )
        if made and made[0].replayed:
            return Response(MergeOut(made, many=True).data, headers={"Idempotency-Replayed": "true"})
        return Response(MergeOut(made, many=True).data, status=status.HTTP_201_CREATED)

    @extend_schema(summary="Undo a merge", tags=["points"], request=None, responses={200: MergeOut, **REFUSED})
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, pk: str | None = None) -> Response:
        if callers.person(request) is not None:
            _decider(request)
        return Response(MergeOut(ledger.unmerge(merge=self.get_object(), actor=callers.person(request))).data)


# --- Four eyes, budgets, frozen accounts ------------------------------------------------------------------------------


class PointsApprovalOut(serializers.ModelSerializer):
    class Meta:
        model = Approval
        fields = [
            "id", "customer", "grant", "points", "reason", "state", "requested_by", "requested_at", "decided_by", "decided_at",
            "note", "entry",
        ]  # fmt: skip
        read_only_fields = fields


class NoteIn(serializers.Serializer):
    note = serializers.CharField(default="", allow_blank=True, max_length=300)


class ApprovalFilter(OfCustomer):
    state = django_filters.ChoiceFilter(choices=Approval.State.choices, label="State.")

    class Meta:
        model = Approval
        fields: list[str] = []


@described("Approvals", "One approval", tag="points")
class ApprovalViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Adjustments above the limit, and points for many: they wait for a person who did not ask."""

    scope = "points"
    queryset = queries.approvals()
    serializer_class = PointsApprovalOut
    filterset_class = ApprovalFilter

    @extend_schema(summary="Say yes", tags=["points"], request=NoteIn, responses={200: PointsApprovalOut, **REFUSED})
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str | None = None) -> Response:
        return self._decide(request, approvals.approve)

    @extend_schema(summary="Say no", tags=["points"], request=NoteIn, responses={200: PointsApprovalOut, **REFUSED})
    @action(detail=True, methods=["post"])
    def refuse(self, request: Request, pk: str | None = None) -> Response:
        return self._decide(request, approvals.refuse)

    def _decide(self, request: Request, verb: Any) -> Response:
        user = _decider(request)
        body = NoteIn(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(PointsApprovalOut(verb(approval=self.get_object(), actor=user, **body.validated_data)).data)


class BudgetOut(serializers.Serializer):
    month = serializers.DateField(help_text="Its first day.")
    points = serializers.IntegerField(help_text="Allowed this month; 0: nothing, or no allowance is set.")
    used = serializers.IntegerField()
    left = serializers.IntegerField()


class GoodwillViewSet(ViewSet):
    """The signed-in person's goodwill budget. What they give with ``points/adjust`` comes out of it."""

    scope = "points"

    @extend_schema(summary="My goodwill budget of this month", tags=["points"], responses=BudgetOut)
    def list(self, request: Request) -> Response:
        user = callers.person(request)
        if user is None:
            raise PermissionDenied
        return Response(BudgetOut(goodwill.budget(user)).data)


class FreezeOut(serializers.ModelSerializer):
    customer = serializers.IntegerField(source="account.customer_id")

    class Meta:
        model = Freeze
        fields = ["id", "account", "customer", "what", "frozen_at"]
        read_only_fields = fields


class UnfreezeIn(serializers.Serializer):
    reason = _reason_field()
    is_rebuilt = serializers.BooleanField(default=False, help_text="First rebuild the account from its entries.")


@described("Frozen accounts", tag="points")
class FrozenViewSet(mixins.ListModelMixin, GenericViewSet):
    """Accounts that stopped because their balance does not equal their entries."""

    scope = "points"
    queryset = queries.frozen()
    serializer_class = FreezeOut

    @extend_schema(
        summary="Open an account again",
        tags=["points"],
        request=UnfreezeIn,
        responses={204: None, 409: OpenApiResponse(description="It still disagrees with its entries.")},
    )
    @action(detail=True, methods=["post"])
    def unfreeze(self, request: Request, pk: str | None = None) -> Response:
        if callers.person(request) is not None and not callers.may_set_up(request):
            raise PermissionDenied
        body = UnfreezeIn(data=request.data)
        body.is_valid(raise_exception=True)
        ledger.unfreeze(account=self.get_object().account, actor=callers.person(request), **body.validated_data)
        return Response(status=status.HTTP_204_NO_CONTENT)


ROUTES: list[tuple[str, Any, str]] = [
    ("holds", HoldViewSet, "hold"),
    ("transfers", TransferViewSet, "transfer"),
    ("households", HouseholdViewSet, "household"),
    ("merges", MergeViewSet, "merge"),
    ("approvals", ApprovalViewSet, "approval"),
    ("goodwill", GoodwillViewSet, "goodwill"),
    ("frozen", FrozenViewSet, "frozen"),
]
