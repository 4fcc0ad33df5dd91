"""REST: what works for whom. Scope noun ``campaigns``."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from campaigns import whom
from campaigns.models import Channel


class DaysIn(serializers.Serializer):
    days = serializers.ChoiceField(
        choices=[str(one) for one in whom.PERIODS], required=False, help_text="So many days back. Default: 90."
    )


class PlaceOut(serializers.Serializer):
    channel = serializers.ChoiceField(choices=Channel.choices)
    age = serializers.CharField(help_text="-24, 25-34, 35-44, 45-54, 55-64, 65-, unknown, or all.")
    stage = serializers.CharField(help_text="Key of the stage when the message was planned, unknown, or all.")
    people = serializers.IntegerField(help_text="Each once for a campaign, whatever became of the message.")
    sent = serializers.IntegerField(help_text="Messages of these that were sent.")
    ordered = serializers.IntegerField(help_text="Who ordered within the campaign's days of credit.")
    held_out = serializers.IntegerField(help_text="Who was held out by chance.")
    share = serializers.FloatField(allow_null=True, help_text="Who ordered, 0 to 1; null below 100 people.")
    gap = serializers.FloatField(
        allow_null=True,
        help_text="Share less that of those held out of the same campaigns; null below 100 people of each.",
    )
    low = serializers.FloatField(allow_null=True, help_text="Lower end of its 95 % interval.")
    high = serializers.FloatField(allow_null=True, help_text="Upper end.")
    is_clear = serializers.BooleanField(help_text="Chance alone does not explain the difference.")


class EffectivenessOut(serializers.Serializer):
    since = serializers.DateField(help_text="Campaigns that began on this date")
    until = serializers.DateField(help_text="to this one.")
    as_of = serializers.DateTimeField(
        help_text="When it was counted, at most ten minutes ago. Days of credit that were not over are left out."
    )
    cells = PlaceOut(many=True)


class EffectivenessViewSet(ViewSet):
    """Of the people offers and news were meant for, who ordered: by channel, age and stage."""

    scope = "campaigns"

    @extend_schema(
        summary="What works for whom", tags=["campaigns"], parameters=[DaysIn], responses={200: EffectivenessOut}
    )
    def list(self, request: Request) -> Response:
        asked = DaysIn(data=request.query_params)
        asked.is_valid(raise_exception=True)
        found = whom.recent(days=int(asked.validated_data.get("days", whom.PERIODS[0])))
        cells = [found.cells[place] for place in sorted(found.cells)]
        told = {"since": found.since, "until": found.until, "as_of": found.as_of, "cells": cells}
        return Response(EffectivenessOut(told).data)


ROUTES: list[tuple[str, Any, str]] = [("effectiveness", EffectivenessViewSet, "effectiveness")]
