"""REST: the stage flow between two dates, and RFM groups on a date. Scope nouns ``stages`` and ``customers``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from customers import rfm
from customers.models import RfmGroup
from lifecycle_crm.dashboard import flow_queries
from lifecycle_crm.lib.errors import NotFound
from stages.models import StageKey
from stages.queries import NEW

DEFAULT_DAYS = 30
_PLACES = [(NEW, "New"), *StageKey.choices]
_REFUSED = OpenApiResponse(description="No such period.")


class PeriodIn(serializers.Serializer):
    since = serializers.DateField(required=False, help_text="Stages at the end of this date. Default: 30 days earlier.")
    until = serializers.DateField(required=False, help_text="And at the end of this date. Default: the newest night.")

    def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        newest = self.context["newest"]
        until = asked.get("until") or newest
        since = asked.get("since") or until - timedelta(days=DEFAULT_DAYS)
        if until > newest:
            raise serializers.ValidationError({"until": [f"No night was run for {until} yet. The newest is {newest}."]})
        if since >= until:
            raise serializers.ValidationError({"since": [f"Choose a date before {until}."]})
        return {"since": since, "until": until}


class FlowCellOut(serializers.Serializer):
    source = serializers.ChoiceField(  # type: ignore[assignment]
        choices=_PLACES, help_text="Stage then; new for who had none."
    )
    target = serializers.ChoiceField(choices=StageKey.choices, help_text="Stage later.")
    people = serializers.IntegerField()
    share = serializers.FloatField(help_text="Of all who stood in the source, 0 to 1.")


class FlowsOut(serializers.Serializer):
    since = serializers.DateField()
    until = serializers.DateField()
    cells = FlowCellOut(many=True)


class FlowViewSet(ViewSet):
    """Who stood where at the ends of two dates: the transition matrix, in people."""

    scope = "stages"

    @extend_schema(
        summary="Transition matrix", tags=["stages"], parameters=[PeriodIn], responses={200: FlowsOut, 400: _REFUSED}
    )
    def list(self, request: Request) -> Response:
        newest = flow_queries.as_of()
        if newest is None:
            raise NotFound("No night was run yet, so nobody moved.")
        asked = PeriodIn(data=request.query_params, context={"newest": newest})
        asked.is_valid(raise_exception=True)
        period = asked.validated_data
        return Response(FlowsOut({**period, "cells": flow_queries.matrix(**period)}).data)


class DateIn(serializers.Serializer):
    on = serializers.DateField(required=False, help_text="Groups at the end of this date. Default: the newest night.")


class RfmGroupOut(serializers.Serializer):
    group = serializers.ChoiceField(choices=RfmGroup.choices)
    customers = serializers.IntegerField()
    revenue_minor = serializers.IntegerField(help_text="What they had spent by then, in minor units.")


class RfmOut(serializers.Serializer):
    business_date = serializers.DateField(help_text="The date the groups were recorded for.")
    groups = RfmGroupOut(many=True)


class RfmViewSet(ViewSet):
    """The eleven groups of buyers at the end of any recorded date."""

    scope = "customers"

    @extend_schema(
        summary="RFM groups", tags=["customers"], parameters=[DateIn], responses={200: RfmOut, 400: _REFUSED}
    )
    def list(self, request: Request) -> Response:
        asked = DateIn(data=request.query_params)
        asked.is_valid(raise_exception=True)
        ends = rfm.recorded()
        found = rfm.sizes(asked.validated_data.get("on") or ends[1]) if ends else None
        if found is None:
            raise NotFound("No groups were recorded up to that date. A night records them.")
        groups = [
            {"group": group, "customers": people, "revenue_minor": minor}
            for group, (people, minor) in found.groups.items()
        ]
        return Response(RfmOut({"business_date": found.day, "groups": groups}).data)


ROUTES: list[tuple[str, Any, str]] = [("flows", FlowViewSet, "flow"), ("rfm", RfmViewSet, "rfm")]
