"""REST: versions of the rules, what they would do and would have done. Scope noun ``stages``."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from lifecycle_crm.accounts.callers import need
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import bell, clock
from lifecycle_crm.lib.api import described
from lifecycle_crm.lib.errors import NotFound
from stages import backtest, checks, queries, rulesets
from stages import rules as rulebook
from stages.models import Backtest, RuleApproval, RuleSet, StageKey
from stages.queries import NEW


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


class AskIn(serializers.Serializer):
    mode = serializers.ChoiceField(
        choices=RuleSet.Mode.choices, default=RuleSet.Mode.QUIET, help_text="How the second person will publish it."
    )


class ApprovalOut(serializers.ModelSerializer):
    version = serializers.IntegerField(source="rule_set.version")
    requested_by = serializers.CharField(source="requested_by.email")

    class Meta:
        model = RuleApproval
        fields = ["version", "mode", "moving", "requested_by", "requested_at"]


class BacktestIn(serializers.Serializer):
    months = serializers.ChoiceField(choices=[(n, str(n)) for n in backtest.MONTHS], default=12)


class BacktestOut(serializers.ModelSerializer):
    version = serializers.IntegerField(source="rule_set.version", help_text="The version that is replayed.")
    against = serializers.IntegerField(source="against.version", help_text="The version in force it is compared with.")
    customers = serializers.IntegerField(help_text="Customers replayed so far; all or a sample of base_customers.")
    result = serializers.SerializerMethodField(
        help_text="When done: customers per stage and moves by month, moves back within 14 nights, revenue after moves with "
        "95 % intervals (minor units), who would stand elsewhere. Old is the version in force, new the replayed one."
    )

    class Meta:
        model = Backtest
        fields = [
            "id",
            "version",
            "against",
            "months",
            "last_day",
            "nights",
            "state",
            "customers",
            "base_customers",
            "result",
            "error",
            "created_at",
            "finished_at",
        ]

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_result(self, test: Backtest) -> dict[str, Any]:
        return dict(test.result) if test.state == Backtest.State.DONE else {}


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

    warnings = serializers.SerializerMethodField(
        help_text="Pairs of rules that would move people back and forth every night; publishing refuses them."
    )

    @extend_schema_field(FlowOut(many=True))
    def get_standing(self, found: rulesets.WhatIf) -> list[dict[str, Any]]:
        return [{"source": s, "target": t, "customers": n} for (s, t), n in sorted(found.standing.items())]

    def get_warnings(self, found: rulesets.WhatIf) -> list[str]:
        return list(checks.loops(self.context["rules"], found.as_of))


@described("Versions of the rules", "One version", tag="stages")
class RuleSetViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Drafts, the version in force and those before it."""

    scope = "stages"
    queryset = queries.rule_sets()
    serializer_class = RuleSetOut
    lookup_field = "version"
    lookup_value_regex = "[0-9]{1,9}"

    @extend_schema(summary="Draft a new version", tags=["stages"], request=RuleSetIn, responses={201: RuleSetOut})
    def create(self, request: Request) -> Response:
        actor = need(request, User.may_steer)
        body = RuleSetIn(data=request.data)
        body.is_valid(raise_exception=True)
        made = rulesets.draft(based_on=None, actor=actor, **body.validated_data)
        return Response(RuleSetOut(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Change a draft",
        description="Replaces its rules, name and note. A request for a second person is withdrawn by it.",
        tags=["stages"],
        request=RuleSetIn,
        responses={200: RuleSetOut, 409: OpenApiResponse(description="It is no draft any more.")},
    )
    def update(self, request: Request, version: str | None = None) -> Response:
        found = self._found(version)
        body = RuleSetIn(data=request.data)
        body.is_valid(raise_exception=True)
        need(request, User.may_steer)
        return Response(RuleSetOut(rulesets.edit(rule_set=found, **body.validated_data)).data)

    @extend_schema(
        summary="Discard a draft",
        tags=["stages"],
        responses={204: None, 409: OpenApiResponse(description="It is no draft any more.")},
    )
    def destroy(self, request: Request, version: str | None = None) -> Response:
        need(request, User.may_steer)
        rulesets.discard(rule_set=self._found(version))
        return Response(status=status.HTTP_204_NO_CONTENT)

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
        found = rulesets.what_if(rules, clock.whole_now())
        return Response(WhatIfOut(found, context={"rules": rules}).data)

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
        actor = need(request, User.may_steer)
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
        again = rulesets.roll_back(to=self._found(version), actor=need(request, User.may_steer))
        return Response(RuleSetOut(again).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Ask for a second person",
        description="Above the brake somebody else may publish what one person asks for. Needs a person, not a key.",
        tags=["stages"],
        request=AskIn,
        responses={201: ApprovalOut, 409: OpenApiResponse(description="It is no draft any more.")},
    )
    @action(detail=True, methods=["post"])
    def ask(self, request: Request, version: str | None = None) -> Response:
        found = self._found(version)
        body = AskIn(data=request.data)
        body.is_valid(raise_exception=True)
        asked = rulesets.request_approval(rule_set=found, actor=_person(request), **body.validated_data)
        return Response(ApprovalOut(asked).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Approve and publish",
        description="Publishes what another person asked for. Needs a person, not a key.",
        tags=["stages"],
        request=None,
        responses={200: RuleSetOut, 409: OpenApiResponse(description="Nobody asks, or you asked yourself.")},
    )
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, version: str | None = None) -> Response:
        return Response(RuleSetOut(rulesets.approve(rule_set=self._found(version), actor=_person(request))).data)

    @extend_schema(
        summary="Let a draft follow the version in force",
        description="After another version was published: says that this draft is meant to follow that one.",
        tags=["stages"],
        request=None,
        responses={200: RuleSetOut, 409: OpenApiResponse(description="It is no draft any more.")},
    )
    @action(detail=True, methods=["post"])
    def follow(self, request: Request, version: str | None = None) -> Response:
        need(request, User.may_steer)
        return Response(RuleSetOut(rulesets.rebase(rule_set=self._found(version))).data)

    @extend_schema(
        summary="Replay past nights by this version",
        description="A worker decides every night of the last months by it and by the version in force. Ask for the "
        "result under backtests.",
        tags=["stages"],
        request=BacktestIn,
        responses={202: BacktestOut, 409: OpenApiResponse(description="One is under way, or no rules are in force.")},
    )
    @action(detail=True, methods=["post"])
    def backtest(self, request: Request, version: str | None = None) -> Response:
        found = self._found(version)
        body = BacktestIn(data=request.data)
        body.is_valid(raise_exception=True)
        made = backtest.request(rule_set=found, actor=need(request, User.may_steer), **body.validated_data)
        bell.ring("lifecycle_crm.tasks.replay_rules")
        return Response(BacktestOut(made).data, status=status.HTTP_202_ACCEPTED)

    def _found(self, version: str | None) -> RuleSet:
        found = queries.rule_set(int(version or 0))
        if found is None:
            raise NotFound(f"There is no version {version} of the rules.")
        return found


def _person(request: Request) -> User:
    actor = need(request, User.may_steer)
    if actor is None:
        raise PermissionDenied("A second person is asked and answers by themselves: sign in instead of using a key.")
    return actor


@described("Replays of rules", "One replay, with its result when it is done", tag="stages")
class BacktestViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Versions replayed over past nights, beside the version that was in force."""

    scope = "stages"
    queryset = Backtest.objects.select_related("rule_set", "against").order_by("-id")
    serializer_class = BacktestOut

    @extend_schema(
        summary="Stop a replay",
        tags=["stages"],
        request=None,
        responses={200: BacktestOut, 409: OpenApiResponse(description="It is over already.")},
    )
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, pk: str | None = None) -> Response:
        actor = need(request, User.may_steer)
        return Response(BacktestOut(backtest.stop(test=self.get_object(), actor=actor)).data)
