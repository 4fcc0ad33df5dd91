"""REST: stages, moves with their reasons, rule sets and nights. Scope noun ``stages``."""

from __future__ import annotations

from typing import Any

import django_filters
from django.utils.dateparse import parse_date
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet, ViewSet

from lifecycle_crm.lib.api import OfCustomer, described
from lifecycle_crm.lib.errors import NotFound
from stages import evidence, playbook, queries, rules_api
from stages.models import Night, StageKey, StageTransition
from stages.queries import NEW


class StageOut(serializers.Serializer):
    key = serializers.ChoiceField(choices=StageKey.choices)
    name = serializers.CharField(help_text="In the language of the request.")
    goal = serializers.CharField()
    playbook = serializers.ListField(child=serializers.CharField(), help_text="Activities, in order.")
    customers = serializers.IntegerField(help_text="Customers who stand here now.")


class TransitionOut(serializers.ModelSerializer):
    rule_set = serializers.IntegerField(
        source="rule_set.version", allow_null=True, default=None, help_text="Version of the rules that decided."
    )
    user = serializers.CharField(
        source="user.email", allow_null=True, default=None, help_text="Who moved the customer by hand."
    )
    night = serializers.DateField(
        source="night.business_date",
        allow_null=True,
        default=None,
        help_text="Business date of the night that decided.",
    )
    reason = serializers.SerializerMethodField(help_text="The whole sentence, in the language of the request.")
    evidence = serializers.SerializerMethodField(
        help_text="The value of every fact the rules looked at; moments in seconds since 1970."
    )

    class Meta:
        model = StageTransition
        fields = [
            "id",
            "customer",
            "from_stage",
            "to_stage",
            "kind",
            "occurred_at",
            "business_date",
            "rule_set",
            "rule",
            "night",
            "user",
            "reason",
            "evidence",
            "is_quiet",
        ]

    def get_reason(self, transition: StageTransition) -> str:
        return evidence.reason(transition)

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_evidence(self, transition: StageTransition) -> dict[str, Any]:
        return dict(transition.evidence)


class NightOut(serializers.ModelSerializer):
    rule_set = serializers.IntegerField(source="rule_set.version", help_text="Version of the rules that decided.")
    counts = serializers.SerializerMethodField(help_text="What it did, by name.")

    class Meta:
        model = Night
        fields = [
            "business_date",
            "as_of",
            "state",
            "rule_set",
            "is_full",
            "is_quiet",
            "counts",
            "error",
            "started_at",
            "finished_at",
        ]

    @extend_schema_field(serializers.DictField(child=serializers.IntegerField()))
    def get_counts(self, night: Night) -> dict[str, Any]:
        return dict(night.counts)


class TransitionFilter(OfCustomer):
    from_stage = django_filters.ChoiceFilter(
        method="moved_from", choices=[(NEW, "New"), *StageKey.choices], label="Stage before; new for first placements."
    )
    to_stage = django_filters.ChoiceFilter(choices=StageKey.choices, label="Stage after.")
    since = django_filters.DateFilter(
        field_name="business_date", lookup_expr="gte", label="Business date on or after this date."
    )
    until = django_filters.DateFilter(
        field_name="business_date", lookup_expr="lte", label="Business date on or before this date."
    )

    class Meta:
        model = StageTransition
        fields: list[str] = []

    def moved_from(self, rows: Any, name: str, value: str) -> Any:
        return rows.filter(from_stage="" if value == NEW else value)


class NightFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=Night.State.choices, label="State.")

    class Meta:
        model = Night
        fields: list[str] = []


class StageViewSet(ViewSet):
    """The six stages, in order, and how many customers stand in each."""

    scope = "stages"

    @extend_schema(summary="Stages", tags=["stages"], responses={200: StageOut(many=True)})
    def list(self, request: Request) -> Response:
        standing, own = queries.standing(), queries.stages()
        rows = [
            {
                "key": key,
                "name": StageKey(key).label,
                "goal": playbook.goal(key, own.get(key)),
                "playbook": playbook.activities(key, own.get(key)),
                "customers": standing[key],
            }
            for key in StageKey.values
        ]
        return Response(StageOut(rows, many=True).data)


@described("Moves between stages", "One move", tag="stages")
class TransitionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Who moved, when and why. Rows are never changed."""

    scope = "stages"
    queryset = queries.transitions().select_related("rule_set", "user", "night")
    serializer_class = TransitionOut
    filterset_class = TransitionFilter


@described("Nights", "The night of one business date", tag="stages")
class NightViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """One run per business date."""

    scope = "stages"
    queryset = queries.nights()
    serializer_class = NightOut
    filterset_class = NightFilter
    lookup_field = "business_date"
    lookup_value_regex = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"

    def get_object(self) -> Night:
        try:
            day = parse_date(self.kwargs["business_date"])
        except ValueError:
            day = None
        found = queries.night(day) if day else None
        if found is None:
            raise NotFound(f"No night was run for {self.kwargs['business_date']}.")
        return found


ROUTES = [
    ("stages", StageViewSet, "stage"),
    ("transitions", TransitionViewSet, "transition"),
    ("rule-sets", rules_api.RuleSetViewSet, "rule-set"),
    ("backtests", rules_api.BacktestViewSet, "backtest"),
    ("nights", NightViewSet, "night"),
]
