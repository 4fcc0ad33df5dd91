"""REST: a customer's wallet and its link. Scope noun ``wallets``: whoever has the link can spend the points."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from lifecycle_crm.lib.api import BIGGEST_ID
from lifecycle_crm.lib.errors import NotFound
from loyalty import callers, codemails, tiers, wallet
from loyalty.models import CodeMail, Redemption
from loyalty.pictures_api import PictureOut


class EndingOut(serializers.Serializer):
    last_day = serializers.DateField()
    points = serializers.IntegerField()


class OfferOut(serializers.Serializer):
    """A reward as this customer sees it."""

    reward = serializers.IntegerField(source="reward.pk", help_text="Id of the reward.")
    name = serializers.CharField(source="reward.name")
    description = serializers.CharField(source="reward.description")
    points = serializers.IntegerField(allow_null=True, help_text="What it costs them; null: not for their tier.")
    lacks = serializers.IntegerField(help_text="So many points they are short of it.")
    may_redeem = serializers.BooleanField()
    refusal = serializers.CharField(help_text="Why they cannot have it, whatever their points; empty if they can.")
    picture = PictureOut(source="reward.picture", allow_null=True)


class WalletOut(serializers.Serializer):
    customer = serializers.IntegerField()
    wallet_url = serializers.URLField(help_text="Opens the wallet without a sign-in, for 400 days.")
    card_number = serializers.CharField()
    programme = serializers.CharField(allow_null=True, help_text="Key of the programme the numbers are of.")
    spendable = serializers.IntegerField()
    shared = serializers.IntegerField(help_text="What the others in their household have, to be used after their own.")
    pending = serializers.IntegerField()
    debt = serializers.IntegerField()
    is_frozen = serializers.BooleanField(help_text="Being checked: nothing can be redeemed meanwhile.")
    value_minor = serializers.IntegerField(help_text="What the spendable points are worth, in minor units.")
    tier = serializers.CharField(allow_null=True, help_text="Key of their tier.")
    perks = serializers.ListField(
        child=serializers.CharField(max_length=9),
        help_text="What their tiers give, of every programme.",
    )
    endings = EndingOut(many=True, help_text="Which points end when, the first first.")
    rewards = OfferOut(many=True, help_text="What the programme offers them, the cheapest first.")


class AskedIn(serializers.Serializer):
    programme = serializers.CharField(required=False, max_length=60, help_text="Key; left out: the main one.")


class MailCodeIn(serializers.Serializer):
    redemption = serializers.IntegerField(
        min_value=1, max_value=BIGGEST_ID, help_text="Id of one of their redemptions."
    )


class CodeMailOut(serializers.ModelSerializer):
    class Meta:
        model = CodeMail
        fields = ["id", "redemption", "customer", "number", "requested_at"]
        read_only_fields = fields


class WalletViewSet(ViewSet):
    """What a customer's wallet shows, and the link that opens it."""

    scope = "wallets"
    lookup_field = "customer"
    lookup_value_regex = "[0-9]{1,18}"

    @extend_schema(summary="One customer's wallet", tags=["wallets"], parameters=[AskedIn], responses={200: WalletOut})
    def retrieve(self, request: Request, customer: str) -> Response:
        asked = AskedIn(data=request.query_params)
        asked.is_valid(raise_exception=True)
        return Response(_answer(int(customer), asked.validated_data.get("programme", "")))

    @extend_schema(
        summary="Make all earlier links dead",
        description="As when somebody forwarded a message. The answer has the new link; the card keeps its number.",
        tags=["wallets"],
        request=None,
        responses={200: WalletOut},
    )
    @action(detail=True, methods=["post"], url_path="renew-link")
    def renew_link(self, request: Request, customer: str) -> Response:
        wallet.renew_links(customer=callers.known_customer(int(customer)))
        return Response(_answer(int(customer), ""))

    @extend_schema(
        summary="Mail the customer the code of something they redeemed",
        description="To the address on file, as a service message; a few times for each redemption.",
        tags=["wallets"],
        request=MailCodeIn,
        responses={
            202: CodeMailOut,
            409: OpenApiResponse(description="No address, not usable any more, or mailed several times already."),
        },
        parameters=[callers.IDEMPOTENCY],
    )
    @action(detail=True, methods=["post"], url_path="mail-code")
    def mail_code(self, request: Request, customer: str) -> Response:
        key = callers.key(request)
        body = MailCodeIn(data=request.data)
        body.is_valid(raise_exception=True)
        whose = callers.known_customer(int(customer))
        redemption = Redemption.objects.filter(pk=body.validated_data["redemption"], customer=whose).first()
        if redemption is None:
            raise NotFound("This customer has no redemption with this id.", code="unknown_redemption")
        made = codemails.ask(redemption=redemption, key=key)
        if made.replayed:
            return Response(CodeMailOut(made).data, headers={"Idempotency-Replayed": "true"})
        return Response(CodeMailOut(made).data, status=status.HTTP_202_ACCEPTED)


def _answer(pk: int, key: str) -> dict[str, Any]:
    customer = callers.known_customer(pk)
    view = wallet.view(customer, key=key)
    return {
        "customer": customer.pk,
        "wallet_url": wallet.url(customer),
        "card_number": wallet.card(customer).number,
        "programme": view.programme.key if view.programme else None,
        "spendable": view.spendable,
        "shared": view.shared.points,
        "pending": view.pending,
        "debt": view.debt,
        "is_frozen": view.is_frozen,
        "value_minor": view.value_minor,
        "tier": view.progress.tier.key if view.progress and view.progress.tier else None,
        "perks": sorted({perk for one in tiers.given(customer) for perk in one.perks}),
        "endings": [{"last_day": day, "points": points} for day, points in view.endings],
        "rewards": OfferOut(view.offers, many=True).data,
    }


ROUTES: list[tuple[str, Any, str]] = [("wallets", WalletViewSet, "wallet")]
