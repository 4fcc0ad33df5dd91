"""REST: rewards and redemptions. Scope noun ``rewards``; whatever moves points needs an ``Idempotency-Key``."""

from __future__ import annotations

from typing import Any

import django_filters
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from customers.models import Product
from lifecycle_crm.lib.api import BIGGEST_ID, OfCustomer, described
from loyalty import callers, catalogue, ledger, rewards, vouchers
from loyalty.models import Programme, Redemption, Reward, Voucher, VoucherSeries
from loyalty.pictures_api import HasPicture, PictureOut


class RewardOut(serializers.ModelSerializer):
    programme = serializers.SlugRelatedField("key", read_only=True, help_text="Key of the programme.")
    product = serializers.SlugRelatedField("sku", read_only=True, allow_null=True, help_text="SKU of the product.")
    prices = serializers.SerializerMethodField(help_text="Price in points per tier; 0 is for nothing.")
    picture = PictureOut(read_only=True, allow_null=True, help_text="What it looks like; null without one.")

    class Meta:
        model = Reward
        fields = [
            "id", "programme", "name", "description", "kind", "perk", "product", "points", "prices", "cost_minor",
            "stock", "per_customer", "series", "starts_on", "ends_on", "only_tiers", "is_active", "picture", "created_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_prices(self, reward: Reward) -> dict[str, int]:
        return {one.tier: one.points for one in reward.prices.all()}


class RewardChange(serializers.Serializer):
    name = serializers.CharField(required=False, max_length=120)
    description = serializers.CharField(required=False, allow_blank=True, max_length=500)
    kind = serializers.ChoiceField(required=False, choices=Reward.Kind.choices)
    perk = serializers.ChoiceField(required=False, allow_blank=True, choices=Reward.Perk.choices)
    product = serializers.SlugRelatedField("sku", required=False, allow_null=True, queryset=Product.objects.all())
    points = serializers.IntegerField(required=False, min_value=0, max_value=ledger.MOST_POINTS)
    prices = serializers.DictField(
        required=False,
        child=serializers.IntegerField(min_value=0, max_value=ledger.MOST_POINTS),
        help_text="Price in points per tier. Replaces all prices of tiers.",
    )
    cost_minor = serializers.IntegerField(required=False, min_value=0, max_value=10**12)
    stock = serializers.IntegerField(required=False, allow_null=True, min_value=0, max_value=10**9)
    stock_seen = serializers.IntegerField(
        required=False,
        min_value=0,
        help_text="The stock you read. If some were redeemed since, the change is refused with 409.",
    )
    per_customer = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=10**6)
    series = serializers.PrimaryKeyRelatedField(
        required=False,
        allow_null=True,
        queryset=VoucherSeries.objects.all(),
        help_text="Series of vouchers a discount or voucher gives a code of.",
    )
    starts_on = serializers.DateField(required=False, allow_null=True)
    ends_on = serializers.DateField(required=False, allow_null=True)
    only_tiers = serializers.BooleanField(required=False)
    is_active = serializers.BooleanField(required=False)


class RewardIn(RewardChange):
    programme = serializers.SlugRelatedField("key", queryset=Programme.objects.all(), help_text="Key of the programme.")
    name = serializers.CharField(max_length=120)
    points = serializers.IntegerField(min_value=0, max_value=ledger.MOST_POINTS)
    stock_seen = None


class RedeemRewardIn(serializers.Serializer):
    customer = serializers.IntegerField(min_value=1, max_value=BIGGEST_ID, help_text="Id of the customer.")
    points = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=ledger.MOST_POINTS,
        help_text="The price they agreed to; another is refused.",
    )


class RedemptionOut(serializers.ModelSerializer):
    reward_name = serializers.CharField(source="reward.name")
    voucher = serializers.CharField(
        source="voucher.code", default=None, allow_null=True, help_text="Code that was given, if any."
    )

    class Meta:
        model = Redemption
        fields = [
            "id", "reward", "reward_name", "customer", "code", "voucher", "points", "tier", "state", "ordered_at", "state_at",
            "entry", "actor",
        ]  # fmt: skip
        read_only_fields = fields


class CancelIn(serializers.Serializer):
    reason = serializers.CharField(max_length=300, help_text="Stays in the customer's history.")


class RewardFilter(django_filters.FilterSet):
    programme = django_filters.CharFilter(field_name="programme__key", label="Key of the programme.")
    kind = django_filters.ChoiceFilter(choices=Reward.Kind.choices, label="Kind of reward.")
    is_active = django_filters.BooleanFilter(label="Offered to customers.")

    class Meta:
        model = Reward
        fields: list[str] = []


class RedemptionFilter(OfCustomer):
    reward = django_filters.NumberFilter(label="Id of the reward.")
    state = django_filters.ChoiceFilter(choices=Redemption.State.choices, label="State.")

    class Meta:
        model = Redemption
        fields: list[str] = []


REFUSED = {
    400: OpenApiResponse(description="The Idempotency-Key is missing, or a field is wrong."),
    409: OpenApiResponse(description="Sold out, over the limit, not offered, another price, or not enough points."),
    422: OpenApiResponse(description="The Idempotency-Key belongs to another request, or a value is not allowed."),
}


def _answer(done: Redemption) -> Response:
    if done.replayed:
        return Response(RedemptionOut(done).data, headers={"Idempotency-Replayed": "true"})
    return Response(RedemptionOut(done).data, status=status.HTTP_201_CREATED)


@described("Rewards", "One reward", tag="rewards")
class RewardViewSet(HasPicture, mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """The catalogue: what points buy."""

    scope = "rewards"
    queryset = catalogue.rewards()
    serializer_class = RewardOut
    filterset_class = RewardFilter

    @extend_schema(summary="Add a reward", tags=["rewards"], request=RewardIn, responses={201: RewardOut})
    def create(self, request: Request) -> Response:
        callers.check_may_set_up(request)
        body = RewardIn(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(RewardOut(rewards.create(**body.validated_data)).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Change a reward",
        description="Who redeemed it keeps it for the price they paid.",
        tags=["rewards"],
        request=RewardChange,
        responses={200: RewardOut, 409: OpenApiResponse(description="Some were redeemed since you read the stock.")},
    )
    def partial_update(self, request: Request, pk: str | None = None) -> Response:
        callers.check_may_set_up(request)
        body = RewardChange(data=request.data, partial=True)
        body.is_valid(raise_exception=True)
        return Response(RewardOut(rewards.change(reward=self.get_object(), **body.validated_data)).data)

    @extend_schema(
        summary="Redeem a reward",
        description=(
            "Points, limit and stock move together or not at all. The last item is redeemed once, however many ask for "
            "it at the same moment."
        ),
        tags=["rewards"],
        request=RedeemRewardIn,
        responses={
            201: RedemptionOut,
            200: OpenApiResponse(RedemptionOut, description="This request was made before; nothing moved now."),
            **REFUSED,
        },
        parameters=[callers.IDEMPOTENCY],
    )
    @action(detail=True, methods=["post"])
    def redeem(self, request: Request, pk: str | None = None) -> Response:
        key = callers.key(request)
        body = RedeemRewardIn(data=request.data)
        body.is_valid(raise_exception=True)
        given: dict[str, Any] = dict(body.validated_data)
        customer = callers.known_customer(given.pop("customer"))
        done = rewards.redeem(
            reward=self.get_object(), customer=customer, key=key, actor=callers.person(request),
            **callers.source(request), **given,
        )  # fmt: skip
        return _answer(done)


@described("Redemptions", "One redemption", tag="rewards")
class RedemptionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Rewards on their way to customers, the last first."""

    scope = "rewards"
    queryset = catalogue.redemptions()
    serializer_class = RedemptionOut
    filterset_class = RedemptionFilter

    @extend_schema(summary="It lies ready", tags=["rewards"], request=None, responses={200: RedemptionOut})
    @action(detail=True, methods=["post"])
    def prepare(self, request: Request, pk: str | None = None) -> Response:
        done = rewards.prepare(redemption=self.get_object(), actor=callers.person(request))
        return Response(RedemptionOut(done).data)

    @extend_schema(summary="The customer has it", tags=["rewards"], request=None, responses={200: RedemptionOut})
    @action(detail=True, methods=["post"], url_path="hand-out")
    def hand_out(self, request: Request, pk: str | None = None) -> Response:
        done = rewards.hand_out(redemption=self.get_object(), actor=callers.person(request))
        return Response(RedemptionOut(done).data)

    @extend_schema(
        summary="Cancel a redemption",
        description="The points go back to the lots they came from, the item back to the stock.",
        tags=["rewards"],
        request=CancelIn,
        responses={200: RedemptionOut, 409: OpenApiResponse(description="Handed out or cancelled already.")},
    )
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str | None = None) -> Response:
        body = CancelIn(data=request.data)
        body.is_valid(raise_exception=True)
        done = rewards.cancel(
            redemption=self.get_object(), actor=callers.person(request), **body.validated_data
        )  # fmt: skip
        return Response(RedemptionOut(done).data)


# --- Vouchers ---------------------------------------------------------------------------------------------------------


class SeriesOut(serializers.ModelSerializer):
    class Meta:
        model = VoucherSeries
        fields = [
            "id", "name", "worth", "amount_minor", "percent", "words", "valid_days", "ends_on", "is_endless", "created_at",
        ]  # fmt: skip
        read_only_fields = fields


class SeriesIn(serializers.Serializer):
    name = serializers.CharField(max_length=120)
    worth = serializers.ChoiceField(choices=VoucherSeries.Worth.choices)
    amount_minor = serializers.IntegerField(required=False, min_value=1, max_value=10**12 - 1)
    percent = serializers.IntegerField(required=False, min_value=1, max_value=100)
    words = serializers.CharField(required=False, allow_blank=True, max_length=200)
    valid_days = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=36_500)
    ends_on = serializers.DateField(required=False, allow_null=True)
    is_endless = serializers.BooleanField(default=True, help_text="False: codes come from a stock of yours.")


class CodesIn(serializers.Serializer):
    count = serializers.IntegerField(
        required=False, min_value=1, max_value=vouchers.MOST_CODES, help_text="Make so many random codes."
    )
    codes = serializers.ListField(
        required=False,
        child=serializers.CharField(max_length=vouchers.LONGEST),
        max_length=vouchers.MOST_CODES,
        help_text="Or take these. One that is known or named twice refuses all of them.",
    )

    def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        if ("count" in asked) == ("codes" in asked):
            raise serializers.ValidationError("Send either count or codes.")
        return asked


class CodesOut(serializers.Serializer):
    added = serializers.IntegerField()


class IssueIn(serializers.Serializer):
    customer = serializers.IntegerField(min_value=1, max_value=BIGGEST_ID, help_text="Id of the customer.")


class CodeIn(serializers.Serializer):
    code = serializers.CharField(
        max_length=200, help_text="As it was typed or scanned; spaces and dashes do not matter."
    )


class UseIn(CodeIn):
    reference = serializers.CharField(
        default="", allow_blank=True, max_length=120, help_text="What it was used for, such as the order's number."
    )


class VoucherOut(serializers.ModelSerializer):
    status = serializers.SerializerMethodField(help_text="free, issued, used, void or expired.")
    is_usable = serializers.SerializerMethodField()
    refusal = serializers.SerializerMethodField(help_text="Why it cannot be used, as a sentence; empty if it can.")
    worth = serializers.CharField(source="series.worth")
    amount_minor = serializers.IntegerField(source="series.amount_minor", allow_null=True)
    percent = serializers.IntegerField(source="series.percent", allow_null=True)
    words = serializers.CharField(source="series.words")

    class Meta:
        model = Voucher
        fields = [
            "id", "series", "code", "status", "is_usable", "refusal", "worth", "amount_minor", "percent", "words",
            "customer", "issued_at", "expires_at", "used_at", "reference",
        ]  # fmt: skip
        read_only_fields = fields

    def get_status(self, voucher: Voucher) -> str:
        return voucher.status()

    def get_is_usable(self, voucher: Voucher) -> bool:
        return vouchers.refusal(voucher) is None

    def get_refusal(self, voucher: Voucher) -> str:
        return str(vouchers.refusal(voucher) or "")


class VoucherFilter(OfCustomer):
    series = django_filters.NumberFilter(label="Id of the series.")
    state = django_filters.ChoiceFilter(choices=Voucher.State.choices, label="Stored state.")

    class Meta:
        model = Voucher
        fields: list[str] = []


def _voucher_answer(done: Voucher) -> Response:
    if done.replayed:
        return Response(VoucherOut(done).data, headers={"Idempotency-Replayed": "true"})
    return Response(VoucherOut(done).data, status=status.HTTP_201_CREATED)


@described("Series of vouchers", "One series of vouchers", tag="vouchers")
class SeriesViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Vouchers of one worth, and their stock of codes."""

    scope = "vouchers"
    queryset = VoucherSeries.objects.all()
    serializer_class = SeriesOut

    @extend_schema(summary="Add a series of vouchers", tags=["vouchers"], request=SeriesIn, responses={201: SeriesOut})
    def create(self, request: Request) -> Response:
        callers.check_may_set_up(request)
        body = SeriesIn(data=request.data)
        body.is_valid(raise_exception=True)
        made = vouchers.create(actor=callers.person(request), **body.validated_data)
        return Response(SeriesOut(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(summary="Add codes to the stock", tags=["vouchers"], request=CodesIn, responses={201: CodesOut})
    @action(detail=True, methods=["post"])
    def codes(self, request: Request, pk: str | None = None) -> Response:
        callers.check_may_set_up(request)
        body = CodesIn(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        series = self.get_object()
        if "count" in asked:
            added = vouchers.generate(series=series, count=asked["count"])
        else:
            added = vouchers.add(series=series, given=asked["codes"])
        return Response({"added": added}, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Issue a voucher to a customer",
        tags=["vouchers"],
        request=IssueIn,
        responses={
            201: VoucherOut,
            200: OpenApiResponse(VoucherOut, description="This request was made before; the same code."),
            409: OpenApiResponse(description="No code is left, or the series has ended."),
        },
        parameters=[callers.IDEMPOTENCY],
    )
    @action(detail=True, methods=["post"])
    def issue(self, request: Request, pk: str | None = None) -> Response:
        key = callers.key(request)
        body = IssueIn(data=request.data)
        body.is_valid(raise_exception=True)
        customer = callers.known_customer(body.validated_data["customer"])
        return _voucher_answer(vouchers.issue(series=self.get_object(), customer=customer, key=key))


@described("Vouchers", "One voucher", tag="vouchers")
class VoucherViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Codes, and what a till asks about them."""

    scope = "vouchers"
    queryset = Voucher.objects.select_related("series", "customer")
    serializer_class = VoucherOut
    filterset_class = VoucherFilter

    @extend_schema(
        summary="Check a voucher at the till",
        description="Changes nothing. Says what it is worth and, if it cannot be used, why.",
        tags=["vouchers"],
        request=CodeIn,
        responses={200: VoucherOut, 404: OpenApiResponse(description="No voucher has this code.")},
        filters=False,
    )
    @action(detail=False, methods=["post"], pagination_class=None)
    def check(self, request: Request) -> Response:
        body = CodeIn(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(VoucherOut(vouchers.find(body.validated_data["code"])).data)

    @extend_schema(
        summary="Use a voucher up",
        description="Once, however many tills ask at the same moment.",
        tags=["vouchers"],
        request=UseIn,
        responses={
            201: VoucherOut,
            200: OpenApiResponse(VoucherOut, description="This request was made before; nothing changed now."),
            404: OpenApiResponse(description="No voucher has this code."),
            409: OpenApiResponse(description="Used, expired, taken back or not issued; `code` says which."),
        },
        parameters=[callers.IDEMPOTENCY],
        filters=False,
    )
    @action(detail=False, methods=["post"], pagination_class=None)
    def use(self, request: Request) -> Response:
        key = callers.key(request)
        body = UseIn(data=request.data)
        body.is_valid(raise_exception=True)
        return _voucher_answer(vouchers.use(key=key, **body.validated_data))


ROUTES: list[tuple[str, Any, str]] = [
    ("rewards", RewardViewSet, "reward"),
    ("redemptions", RedemptionViewSet, "redemption"),
    ("voucher-series", SeriesViewSet, "voucher-series"),
    ("vouchers", VoucherViewSet, "voucher"),
]
