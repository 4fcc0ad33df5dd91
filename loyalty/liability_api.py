"""REST: what the programme owes and costs as of a date. Scope noun ``points``, to read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from lifecycle_crm.lib.errors import NotFound
from loyalty import effect, liability
from loyalty.models import Programme


class EndOut(serializers.Serializer):
    first = serializers.DateField(allow_null=True, help_text="First day of the month; null: these points never end.")
    points = serializers.IntegerField()
    people = serializers.IntegerField()
    worth_minor = serializers.IntegerField()


class LiabilityMonthOut(serializers.Serializer):
    first = serializers.DateField(help_text="First day of the month.")
    given = serializers.IntegerField()
    redeemed = serializers.IntegerField(help_text="Less what was given back.")
    expired = serializers.IntegerField()
    taken_back = serializers.IntegerField()
    outstanding = serializers.IntegerField(help_text="At the end of the month.")
    cost_minor = serializers.IntegerField()
    owed_minor = serializers.IntegerField()


class BreakageOut(serializers.Serializer):
    people = serializers.IntegerField(help_text="How many customers it was learnt from.")
    share_over = serializers.FloatField(
        allow_null=True, help_text="Of points whose life is over, the share that ended unused."
    )
    points = serializers.IntegerField(allow_null=True, help_text="Null: not enough data.")
    low = serializers.IntegerField(allow_null=True, help_text="Lower end of the 95 % interval.")
    high = serializers.IntegerField(allow_null=True, help_text="Upper end of the 95 % interval.")
    worth_minor = serializers.IntegerField(allow_null=True)


class EffectOut(serializers.Serializer):
    joined_from = serializers.DateField()
    joined_to = serializers.DateField()
    until = serializers.DateField()
    matched = serializers.IntegerField(help_text="Members who could be compared.")
    compared = serializers.IntegerField(help_text="Others they were compared with.")
    strata = serializers.IntegerField()
    members_minor = serializers.IntegerField(allow_null=True)
    others_minor = serializers.IntegerField(allow_null=True)
    difference_minor = serializers.IntegerField(
        allow_null=True, help_text="Null: not enough data. Not proof of a cause."
    )
    low_minor = serializers.IntegerField(allow_null=True)
    high_minor = serializers.IntegerField(allow_null=True)
    members_again = serializers.FloatField(allow_null=True, help_text="Share of the members who bought again, 0 to 1.")
    others_again = serializers.FloatField(allow_null=True)
    difference_again = serializers.FloatField(allow_null=True)
    low_again = serializers.FloatField(allow_null=True)
    high_again = serializers.FloatField(allow_null=True)


class OwedByTierOut(serializers.Serializer):
    key = serializers.CharField(help_text="Key of the tier that was held then; empty: no tier.")
    name = serializers.CharField()
    people = serializers.IntegerField()
    points = serializers.IntegerField()
    worth_minor = serializers.IntegerField()


class LiabilityOut(serializers.Serializer):
    programme = serializers.IntegerField()
    day = serializers.DateField(help_text="Everything is as of the end of this date in the shop's zone.")
    holders = serializers.IntegerField()
    pending = serializers.IntegerField()
    available = serializers.IntegerField()
    held = serializers.IntegerField()
    debt = serializers.IntegerField(help_text="Owed by customers; not taken off.")
    recorded_later = serializers.IntegerField(help_text="The part that was recorded after the date.")
    points = serializers.IntegerField()
    liability_minor = serializers.IntegerField()
    breakage = BreakageOut()
    effect = EffectOut()
    calendar = EndOut(many=True)
    tiers = OwedByTierOut(many=True, help_text="Empty for a programme that never had tiers.")
    months = LiabilityMonthOut(many=True)


class LiabilityViewSet(ViewSet):
    """What the programme owes, as of any past date."""

    scope = "points"

    @extend_schema(
        summary="Points outstanding, breakage, calendar and cost as of a date",
        tags=["points"],
        parameters=[
            OpenApiParameter("as_of", OpenApiTypes.DATE, description="Default: the last complete day."),
            OpenApiParameter("programme", OpenApiTypes.INT, description="Default: the programme that orders earn in."),
        ],
        responses=LiabilityOut,
    )
    def list(self, request: Request) -> Response:
        wanted = request.query_params.get("programme", "")
        if wanted and not (wanted.isdecimal() and len(wanted) < 19):
            raise NotFound("There is no such programme.")
        programme = Programme.objects.filter(pk=int(wanted)).first() if wanted else Programme.current()
        if programme is None:
            raise NotFound("There is no such programme.")
        on = liability.asked_day(request.query_params.get("as_of", ""))
        found = liability.report(programme, on)
        owed, unused = found["outstanding"], found["breakage"]
        told: dict[str, Any] = {
            **{name: getattr(owed, name) for name in ("day", "holders", "pending", "available", "held", "debt")},
            **{name: getattr(owed, name) for name in ("recorded_later", "points", "liability_minor")},
            "programme": programme.pk,
            "breakage": unused,
            "effect": effect.effect(programme, on),
            "calendar": [asdict(one) for one in found["calendar"]],
            "tiers": [asdict(one) for one in found["tiers"]],
            "months": [asdict(one) for one in found["months"]],
        }
        return Response(LiabilityOut(told).data)


ROUTES: list[tuple[str, Any, str]] = [("liability", LiabilityViewSet, "liability")]
