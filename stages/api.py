"""REST: stages, moves with their reasons, rule sets and nights. Scope noun ``stages``."""

from __future__ import annotations

from typing import Any

import django_filters
from django.utils.dateparse import parse_date
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field, extend_schema_view
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet, ViewSet

from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import NotFound
from stages import evidence, playbook, queries, rulesets
from stages import rules as rulebook
from stages.models import Night, RuleSet, StageKey, StageTransition
from stages.queries import NEW
from stages.rulesets import may_publish


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


class RuleSetOut(serializers.ModelSerializer):
    rules = serializers.JSONField(help_text="Ordered list; the first rule whose condition holds decides.")
    created_by = serializers.CharField(source="created_by.email", allow_null=True, default=None)

    class Meta:
        model = RuleSet
        fields = ["version", "name", "state", "rules", "note", "created_by", "created_at", "published_at", "mode"]


class RuleSetIn(serializers.Serializer):
    name = serializers.CharField(max_length=80)
    rules = serializers.JSONField(help_text="Ordered list of rules; the last one must catch everybody.")
    note = serializers.CharField(default="", allow_blank=True, max_length=2000)


class PublishIn(serializers.Serializer):
    mode = serializers.ChoiceField(
        choices=RuleSet.Mode.choices,
        default=RuleSet.Mode.QUIET,
        help_text="What happens to people whom the new rules would move at once.",
    )
    confirm = serializers.IntegerField(
        required=False,
        min_value=0,
        help_text="The number of customers who would move; needed above 5 % of the base or 1,000 customers.",
    )


class FlowOut(serializers.Serializer):
    source = serializers.ChoiceField(
        choices=[(NEW, "New"), *StageKey.choices], help_text="Stage now; new for customers without one."
    )
    target = serializers.ChoiceField(choices=StageKey.choices, help_text="Stage then.")
    customers = serializers.IntegerField()


class MoverOut(serializers.Serializer):
    customer = serializers.IntegerField(source="customer.pk")
    source = serializers.CharField()
    target = serializers.CharField()
    rule = serializers.CharField()
    because = serializers.CharField()


class WhatIfOut(serializers.Serializer):
    as_of = serializers.DateTimeField()
    customers = serializers.IntegerField(source="total")
    moving = serializers.IntegerField(help_text="How many customers would move.")
    standing = serializers.SerializerMethodField(help_text="All customers by stage now and then.")
    sample = MoverOut(many=True, help_text="Of those who would move, who spent most.")

    @extend_schema_field(FlowOut(many=True))
    def get_standing(self, found: rulesets.WhatIf) -> list[dict[str, Any]]:
        return [{"source": s, "target": t, "customers": n} for (s, t), n in sorted(found.standing.items())]


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


class TransitionFilter(django_filters.FilterSet):
    customer = django_filters.NumberFilter(field_name="customer_id", label="Id of the customer.", max_value=2**63 - 1)
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


@extend_schema_view(
    list=extend_schema(summary="Moves between stages", tags=["stages"]),
    retrieve=extend_schema(summary="One move", tags=["stages"]),
)
class TransitionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Who moved, when and why. Rows are never changed."""

    scope = "stages"
    queryset = queries.transitions().select_related("rule_set", "user", "night")
    serializer_class = TransitionOut
    filterset_class = TransitionFilter


@extend_schema_view(
    list=extend_schema(summary="Versions of the rules", tags=["stages"]),
    retrieve=extend_schema(summary="One version", tags=["stages"]),
)
class RuleSetViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Drafts, the version in force and those before it."""

    scope = "stages"
    queryset = queries.rule_sets()
    serializer_class = RuleSetOut
    lookup_field = "version"
    lookup_value_regex = "[0-9]{1,9}"

    @extend_schema(summary="Draft a new version", tags=["stages"], request=RuleSetIn, responses={201: RuleSetOut})
    def create(self, request: Request) -> Response:
        body = RuleSetIn(data=request.data)
        body.is_valid(raise_exception=True)
        made = rulesets.draft(based_on=None, actor=_actor(request), **body.validated_data)
        return Response(RuleSetOut(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="What this version would do",
        tags=["stages"],
        request=None,
        responses={200: WhatIfOut},
        filters=False,
    )
    @action(detail=True, methods=["get"], url_path="what-if")
    def what_if(self, request: Request, version: str | None = None) -> Response:
        rules = rulebook.parse(self._found(version).rules)
        return Response(WhatIfOut(rulesets.what_if(rules, clock.whole_now())).data)

    @extend_schema(
        summary="Publish a draft",
        description="Everybody is reviewed in the next night; moves that follow from the change are quiet unless mode says "
        "otherwise.",
        tags=["stages"],
        request=PublishIn,
        responses={
            200: RuleSetOut,
            409: OpenApiResponse(
                description="It is no draft any more, another version was published since it was made, or so many would "
                "move that confirm is needed."
            ),
            422: OpenApiResponse(description="A rule can never decide, or two rules move people back and forth."),
        },
    )
    @action(detail=True, methods=["post"])
    def publish(self, request: Request, version: str | None = None) -> Response:
        found = self._found(version)
        body = PublishIn(data=request.data)
        body.is_valid(raise_exception=True)
        actor = _publisher(request)
        return Response(RuleSetOut(rulesets.release(rule_set=found, actor=actor, **body.validated_data)).data)

    @extend_schema(
        summary="Go back to an older version",
        description="Publishes its rules again, as a new version.",
        tags=["stages"],
        request=None,
        responses={201: RuleSetOut, 409: OpenApiResponse(description="It is no older version.")},
    )
    @action(detail=True, methods=["post"])
    def restore(self, request: Request, version: str | None = None) -> Response:
        again = rulesets.roll_back(to=self._found(version), actor=_publisher(request))
        return Response(RuleSetOut(again).data, status=status.HTTP_201_CREATED)

    def _found(self, version: str | None) -> RuleSet:
        found = queries.rule_set(int(version or 0))
        if found is None:
            raise NotFound(f"There is no version {version} of the rules.")
        return found


def _actor(request: Request) -> User | None:
    """The person behind the request; a key stands for nobody in particular."""
    return request.user if isinstance(request.user, User) else None


def _publisher(request: Request) -> User | None:
    actor = _actor(request)
    if actor is not None and not may_publish(actor):
        raise PermissionDenied("Publishing rules needs the Marketer role.")
    return actor


@extend_schema_view(
    list=extend_schema(summary="Nights", tags=["stages"]),
    retrieve=extend_schema(summary="The night of one business date", tags=["stages"]),
)
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
    ("rule-sets", RuleSetViewSet, "rule-set"),
    ("nights", NightViewSet, "night"),
]
