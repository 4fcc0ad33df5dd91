"""REST: points entries and accounts. Scope noun ``points``; whatever moves points needs an ``Idempotency-Key``."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from lifecycle_crm.lib.api import BIGGEST_ID, OfCustomer, described
from lifecycle_crm.lib.errors import NotFound
from loyalty import (
    approvals,
    callers,
    corrections,
    extensions_api,
    grants_api,
    journal,
    ledger,
    liability_api,
    memberships_api,
    movements_api,
    programme_api,
    referrals_api,
    rewards,
    rewards_api,
    signoffs_api,
    statements,
    wallet_api,
)
from loyalty.models import Account, Approval, Entry


class EntryOut(serializers.ModelSerializer):
    why = serializers.SerializerMethodField(help_text="The reason as a sentence.")
    explanation = serializers.DictField(help_text="The numbers the points were computed from.")

    class Meta:
        model = Entry
        fields = [
            "id",
            "customer",
            "kind",
            "points",
            "effective_at",
            "recorded_at",
            "reason",
            "why",
            "explanation",
            "source_type",
            "source_id",
            "takes_back",
            "reverses",
            "actor",
        ]

    def get_why(self, entry: Entry) -> str:
        return statements.explain(entry)


class AccountOut(serializers.ModelSerializer):
    is_frozen = serializers.SerializerMethodField(help_text="Nothing can be redeemed until somebody looked at it.")

    class Meta:
        model = Account
        fields = [
            "customer",
            "balance",
            "pending",
            "held",
            "debt",
            "earned",
            "adjusted",
            "spent",
            "expired",
            "reversed",
            "moved",
            "is_frozen",
            "opened_at",
        ]

    def get_is_frozen(self, account: Account) -> bool:
        return account.frozen_at is not None


class RedeemIn(serializers.Serializer):
    customer = serializers.IntegerField(min_value=1, max_value=2**63 - 1, help_text="Id of the customer.")
    points = serializers.IntegerField(min_value=1, max_value=ledger.MOST_POINTS, help_text="How many to spend.")
    reason = serializers.CharField(default="", allow_blank=True, max_length=300, help_text="What they get for them.")


class AdjustIn(serializers.Serializer):
    customer = serializers.IntegerField(min_value=1, max_value=2**63 - 1, help_text="Id of the customer.")
    points = serializers.IntegerField(
        min_value=-ledger.MOST_POINTS,
        max_value=ledger.MOST_POINTS,
        help_text="Positive gives, negative takes; never 0.",
    )
    reason = serializers.CharField(max_length=300, help_text="Stays in the customer's history.")


class UndoIn(serializers.Serializer):
    points = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=ledger.MOST_POINTS,
        help_text="Part of an earning to take back; left out: all that is left. A redemption is given back as a whole.",
    )
    reason = serializers.CharField(default="", allow_blank=True, max_length=300)


class UndoManyIn(serializers.Serializer):
    entries = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        min_length=1,
        max_length=corrections.MOST,
        help_text="Ids of the movements.",
    )
    reason = serializers.CharField(max_length=300, help_text="Stays in the customers' histories.")


class LeftOut(serializers.Serializer):
    entry = serializers.IntegerField(source="entry.pk", help_text="Id of a movement that was not undone.")
    why = serializers.CharField()


class UndoneOut(serializers.Serializer):
    done = EntryOut(many=True, help_text="The movements that were written.")
    left = LeftOut(many=True, help_text="What stayed as it was, and why.")
    points = serializers.IntegerField(help_text="The sum of the movements that were written.")


class PointsFilter(OfCustomer):
    kind = django_filters.ChoiceFilter(choices=Entry.Kind.choices, label="Kind of movement.")
    effective_from = django_filters.IsoDateTimeFilter(
        field_name="effective_at", lookup_expr="gte", label="Holds from this moment or later."
    )
    effective_before = django_filters.IsoDateTimeFilter(
        field_name="effective_at", lookup_expr="lt", label="Holds from before this moment."
    )
    points_min = django_filters.NumberFilter(field_name="points", lookup_expr="gte", label="At least so many points.")
    points_max = django_filters.NumberFilter(field_name="points", lookup_expr="lte", label="At most so many points.")
    actor = django_filters.NumberFilter(min_value=1, max_value=BIGGEST_ID, label="Id of the person who moved them.")
    order = django_filters.CharFilter(
        method="of_order", label="Number of an order: what it gave and what was taken back."
    )
    reason = django_filters.CharFilter(lookup_expr="icontains", label="Words of the reason.")
    rule = django_filters.CharFilter(method="by_rule", label="Key of the rule that gave them.")

    def of_order(self, rows: QuerySet[Entry], _name: str, value: str) -> QuerySet[Entry]:
        return journal.of_order(rows, value)

    def by_rule(self, rows: QuerySet[Entry], _name: str, value: str) -> QuerySet[Entry]:
        return journal.by_rule(rows, value)

    class Meta:
        model = Entry
        fields: list[str] = []


class AccountFilter(OfCustomer):
    balance_min = django_filters.NumberFilter(field_name="balance", lookup_expr="gte", label="At least so many points.")

    class Meta:
        model = Account
        fields: list[str] = []


MOVED = {
    201: EntryOut,
    200: OpenApiResponse(EntryOut, description="This request was made before; nothing moved now."),
    400: OpenApiResponse(description="The Idempotency-Key is missing, or a field is wrong."),
    409: OpenApiResponse(description="Not enough points, or nothing left to undo."),
    422: OpenApiResponse(description="The Idempotency-Key belongs to another request, or a value is not allowed."),
}


def _answer(entry: Entry) -> Response:
    if entry.replayed:
        return Response(EntryOut(entry).data, headers={"Idempotency-Replayed": "true"})
    return Response(EntryOut(entry).data, status=status.HTTP_201_CREATED)


@described("Movements of points", "One movement of points", tag="points")
class PointsViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """The ledger: every movement of points, the last first. Nothing in it is ever changed."""

    scope = "points"
    queryset = statements.entries()
    serializer_class = EntryOut
    filterset_class = PointsFilter

    @extend_schema(
        summary="Redeem points",
        description="Points that expire first are spent first. Refused with 409 when there are too few.",
        tags=["points"],
        request=RedeemIn,
        responses=MOVED,
        parameters=[callers.IDEMPOTENCY],
        filters=False,
    )
    @action(detail=False, methods=["post"], pagination_class=None)
    def redeem(self, request: Request) -> Response:
        key = callers.key(request)
        body = RedeemIn(data=request.data)
        body.is_valid(raise_exception=True)
        given: dict[str, Any] = dict(body.validated_data)
        customer = callers.known_customer(given.pop("customer"))
        return _answer(
            ledger.redeem(customer=customer, key=key, actor=callers.person(request), **callers.source(request), **given)
        )

    @extend_schema(
        summary="Give or take points by hand",
        description=(
            "What is given expires like the points of an order of today; what is taken must be there. Above the "
            "programme's limit nothing moves yet: the answer is 202 with the approval that waits for a second person. "
            "What a person with a goodwill allowance gives comes out of their budget of the month."
        ),
        tags=["points"],
        request=AdjustIn,
        responses={
            **MOVED,
            202: movements_api.PointsApprovalOut,
            403: OpenApiResponse(description="More than the role of this person may give or take."),
        },
        parameters=[callers.IDEMPOTENCY],
        filters=False,
    )
    @action(detail=False, methods=["post"], pagination_class=None)
    def adjust(self, request: Request) -> Response:
        key = callers.key(request)
        body = AdjustIn(data=request.data)
        body.is_valid(raise_exception=True)
        given: dict[str, Any] = dict(body.validated_data)
        customer = callers.known_customer(given.pop("customer"))
        made = approvals.adjust(
            customer=customer, key=key, actor=callers.person(request), **callers.source(request), **given
        )
        if isinstance(made, Approval):
            told = movements_api.PointsApprovalOut(made).data
            if made.replayed:
                return Response(told, status=status.HTTP_202_ACCEPTED, headers={"Idempotency-Replayed": "true"})
            return Response(told, status=status.HTTP_202_ACCEPTED)
        return _answer(made)

    @extend_schema(
        summary="Undo a movement",
        description=(
            "A redemption or a deduction is given back to the lots it came from. An earning or a gift is taken back, in "
            "part or whole; what was spent of it becomes a debt."
        ),
        tags=["points"],
        request=UndoIn,
        responses=MOVED,
        parameters=[callers.IDEMPOTENCY],
    )
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, pk: str | None = None) -> Response:
        key = callers.key(request)
        body = UndoIn(data=request.data)
        body.is_valid(raise_exception=True)
        entry = self.get_object()
        rewards.keep_together(entry)
        return _answer(ledger.undo(entry=entry, key=key, actor=callers.person(request), **body.validated_data))

    @extend_schema(
        summary="Undo several movements",
        description=(
            "With one reason, in one transaction. What cannot be undone stays as it is and is named. "
            "A person needs the role that sets up programmes."
        ),
        tags=["points"],
        request=UndoManyIn,
        responses={
            201: UndoneOut,
            200: OpenApiResponse(UndoneOut, description="Nothing moved now: all of it was undone before."),
            404: OpenApiResponse(description="There is no movement with one of the ids."),
            422: OpenApiResponse(description="The Idempotency-Key belongs to another request."),
        },
        parameters=[callers.IDEMPOTENCY],
        filters=False,
    )
    @action(detail=False, methods=["post"], url_path="undo-many", url_name="undo-many", pagination_class=None)
    def undo_many(self, request: Request) -> Response:
        callers.check_may_set_up(request)
        key = callers.key(request)
        body = UndoManyIn(data=request.data)
        body.is_valid(raise_exception=True)
        wanted = set(body.validated_data["entries"])
        found = list(statements.entries().filter(pk__in=wanted).select_related("programme"))
        if len(found) != len(wanted):
            gone = min(wanted - {one.pk for one in found})
            raise NotFound(f"There is no movement #{gone}.", code="unknown_entry")
        done = corrections.undo_many(
            entries=found, key=key, actor=callers.person(request), reason=body.validated_data["reason"]
        )
        is_new = bool(done.done) and not done.replayed
        return Response(UndoneOut(done).data, status=status.HTTP_201_CREATED if is_new else status.HTTP_200_OK)


@described("Points accounts", "What one customer has", tag="points")
class AccountViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Balances of the current programme, found by the id of the customer."""

    scope = "points"
    queryset = Account.objects.all()
    serializer_class = AccountOut
    filterset_class = AccountFilter
    lookup_field = "customer_id"
    lookup_url_kwarg = "customer"
    lookup_value_regex = "[0-9]{1,18}"

    def get_queryset(self) -> QuerySet[Account]:
        return statements.accounts()


ROUTES: list[tuple[str, Any, str]] = [
    ("points", PointsViewSet, "points"),
    ("accounts", AccountViewSet, "account"),
    *programme_api.ROUTES,
    *memberships_api.ROUTES,
    *rewards_api.ROUTES,
    *wallet_api.ROUTES,
    *movements_api.ROUTES,
    *liability_api.ROUTES,
    *extensions_api.ROUTES,
    *grants_api.ROUTES,
    *signoffs_api.ROUTES,
    *referrals_api.ROUTES,
]
