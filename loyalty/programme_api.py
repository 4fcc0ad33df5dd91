"""REST: programmes, earning rules, tiers and the year told again. Scope noun ``programmes``."""

from __future__ import annotations

from typing import Any

import django_filters
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from lifecycle_crm.lib.api import BIGGEST_ID, described
from loyalty import callers, presets, rules, sentences, tiers, trial, whatif
from loyalty import programme as programmes
from loyalty.models import EarningRule, Ladder, Programme

REFUSED = {
    409: OpenApiResponse(description="The state does not allow it; the problem says why."),
    422: OpenApiResponse(description="Something makes no sense; the problem names the field. Nothing was saved."),
}


class TierOut(serializers.Serializer):
    key = serializers.CharField(help_text="What facts, rules and segments know the tier by.")
    name = serializers.CharField()
    threshold = serializers.IntegerField(help_text="Points, minor units or orders, as the ladder counts.")
    benefits = serializers.ListField(child=serializers.CharField())
    perks = serializers.ListField(child=serializers.CharField(max_length=9), help_text="Keys, as of a reward's perk.")


class LadderOut(serializers.ModelSerializer):
    class Meta:
        model = Ladder
        fields = ["measure", "window", "window_months", "grace_days", "step_down"]


class ProgrammeOut(serializers.ModelSerializer):
    is_main = serializers.SerializerMethodField(help_text="Its points are the customers' fact “points”.")
    ladder = serializers.SerializerMethodField(help_text="How tiers are decided; null without tiers.")
    tiers = TierOut(many=True, read_only=True)
    words = serializers.SerializerMethodField(help_text="The programme in plain words, a sentence each.")

    class Meta:
        model = Programme
        fields = [
            "key", "name", "kind", "about", "joining", "fee_minor", "term_months", "position", "pending_days",
            "expiry_months", "value_minor_per_100", "is_active", "is_main", "ladder", "tiers", "words", "created_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_is_main(self, programme: Programme) -> bool:
        return programme == Programme.current()

    @extend_schema_field(LadderOut(allow_null=True))
    def get_ladder(self, programme: Programme) -> Any:
        found = Ladder.objects.filter(programme=programme).first()
        return LadderOut(found).data if found else None

    def get_words(self, programme: Programme) -> list[str]:
        names = tiers.names(programme)
        return [
            *(sentences.rule(one, names) for one in rules.in_force(programme)), *sentences.programme(programme),
        ]  # fmt: skip


class ProgrammeChange(serializers.Serializer):
    name = serializers.CharField(required=False, max_length=80)
    about = serializers.CharField(required=False, allow_blank=True, max_length=300)
    joining = serializers.ChoiceField(required=False, choices=Programme.Joining.choices)
    fee_minor = serializers.IntegerField(required=False, help_text="What joining costs, in minor units.")
    term_months = serializers.IntegerField(required=False, allow_null=True)
    pending_days = serializers.IntegerField(required=False)
    expiry_months = serializers.IntegerField(required=False, allow_null=True)
    value_minor_per_100 = serializers.IntegerField(required=False)
    position = serializers.IntegerField(required=False)


class ProgrammeIn(ProgrammeChange):
    name = serializers.CharField(max_length=80)
    key = serializers.SlugField(required=False, max_length=60, help_text="Left out: made from the name.")
    kind = serializers.ChoiceField(choices=Programme.Kind.choices, default=Programme.Kind.POINTS)


class StepIn(serializers.Serializer):
    key = serializers.SlugField(required=False, max_length=40, help_text="Left out: made from the name.")
    name = serializers.CharField(max_length=60)
    threshold = serializers.IntegerField()
    benefits = serializers.ListField(child=serializers.CharField(max_length=200), default=list)
    perks = serializers.ListField(
        child=serializers.CharField(max_length=9),
        default=list,
        help_text="What the shop's systems act on.",
    )


class LadderIn(serializers.Serializer):
    measure = serializers.ChoiceField(choices=Ladder.Measure.choices, default=Ladder.Measure.POINTS)
    window = serializers.ChoiceField(choices=Ladder.Window.choices, default=Ladder.Window.ROLLING)
    window_months = serializers.IntegerField(default=12)
    grace_days = serializers.IntegerField(default=0)
    step_down = serializers.ChoiceField(choices=Ladder.StepDown.choices, default=Ladder.StepDown.BALANCE)
    tiers = StepIn(many=True)


class RuleOut(serializers.ModelSerializer):
    programme = serializers.SlugRelatedField("key", read_only=True)
    segment = serializers.SlugRelatedField("key", read_only=True, allow_null=True)
    words = serializers.SerializerMethodField(help_text="The rule as a sentence.")
    dates = serializers.ListField(child=serializers.CharField())
    tiers = serializers.ListField(child=serializers.CharField())
    stages = serializers.ListField(child=serializers.CharField())
    channels = serializers.ListField(child=serializers.CharField(), help_text="Sources of orders; empty: all.")

    class Meta:
        model = EarningRule
        fields = [
            "id", "programme", "key", "version", "name", "kind", "subject", "property", "points", "per", "percent",
            "weekdays", "dates", "segment", "tiers", "stages", "channels", "limit_points", "limit_times", "limit_per",
            "starts_at", "ends_at", "is_current", "position", "words",
        ]  # fmt: skip
        read_only_fields = fields

    def get_words(self, rule: EarningRule) -> str:
        return sentences.rule(rule)


class RuleChange(serializers.Serializer):
    name = serializers.CharField(required=False, max_length=80)
    subject = serializers.CharField(required=False, allow_blank=True, max_length=120)
    property = serializers.CharField(required=False, allow_blank=True, max_length=80)
    points = serializers.IntegerField(required=False)
    per = serializers.IntegerField(required=False, allow_null=True, help_text="Minor units, or units of the property.")
    percent = serializers.IntegerField(required=False, help_text="Of a multiplier: 200 doubles.")
    weekdays = serializers.CharField(required=False, allow_blank=True, max_length=7, help_text="67: Saturday, Sunday.")
    dates = serializers.ListField(required=False, child=serializers.CharField(max_length=10), max_length=60)
    segment = serializers.CharField(required=False, allow_null=True, max_length=60, help_text="Key of a segment.")
    tiers = serializers.ListField(required=False, child=serializers.CharField(max_length=40))
    stages = serializers.ListField(required=False, child=serializers.CharField(max_length=12))
    channels = serializers.ListField(
        required=False, child=serializers.CharField(max_length=40), max_length=20,
        help_text="Sources of orders, such as web; only for rules about orders. Empty: all.",
    )  # fmt: skip
    limit_points = serializers.IntegerField(required=False, allow_null=True)
    limit_times = serializers.IntegerField(required=False, allow_null=True)
    limit_per = serializers.ChoiceField(required=False, allow_blank=True, choices=EarningRule.Per.choices)
    starts_at = serializers.DateTimeField(required=False, allow_null=True, help_text="null: since ever. Default: now.")
    ends_at = serializers.DateTimeField(required=False, allow_null=True)
    position = serializers.IntegerField(required=False)


class RuleIn(RuleChange):
    programme = serializers.SlugRelatedField("key", queryset=Programme.objects.all(), help_text="Key of the programme.")
    kind = serializers.ChoiceField(choices=EarningRule.Kind.choices)
    name = serializers.CharField(max_length=80)
    key = serializers.SlugField(required=False, max_length=60, help_text="Left out: made from the name.")


class SideOut(serializers.Serializer):
    points = serializers.IntegerField()
    earners = serializers.IntegerField()
    liability_minor = serializers.IntegerField(help_text="If every point were redeemed.")
    cost_minor = serializers.IntegerField(help_text="By the share that is redeemed in this shop.")
    per_tier = serializers.DictField(child=serializers.IntegerField(), help_text="Members by the tier's name.")


class AnswerOut(serializers.Serializer):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    today = SideOut()
    draft = SideOut()
    up = serializers.IntegerField(help_text="Members who would stand higher.")
    down = serializers.IntegerField(help_text="Members who would be downgraded.")
    fallen = serializers.ListField(child=serializers.IntegerField(), help_text="Ids of some of them, at most 20.")
    asked = serializers.IntegerField()
    everybody = serializers.IntegerField()
    is_sample = serializers.BooleanField()
    redeemed_share = serializers.FloatField()


class WhatIfIn(serializers.Serializer):
    rule = serializers.IntegerField(
        required=False, min_value=1, max_value=BIGGEST_ID, help_text="Id of the rule that is changed; left out: added."
    )
    kind = serializers.ChoiceField(
        required=False, choices=EarningRule.Kind.choices, help_text="Of a rule that is added."
    )
    values = RuleChange(required=False, help_text="The rule's fields.")
    ladder = LadderIn(required=False, help_text="Other tiers.")
    value_minor_per_100 = serializers.IntegerField(required=False, min_value=0, max_value=10**9)


class TrialIn(serializers.Serializer):
    rule = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=BIGGEST_ID,
        help_text="Id of the rule that is tried; left out: a new one.",
    )
    kind = serializers.ChoiceField(required=False, choices=EarningRule.Kind.choices, help_text="Of a new rule.")
    values = RuleChange(required=False, help_text="The rule's fields, where they are to be others.")
    order = serializers.CharField(required=False, max_length=120, help_text="Number of an order that exists.")
    customer = serializers.IntegerField(
        required=False, min_value=1, max_value=BIGGEST_ID, help_text="Whose order or event; left out: somebody new."
    )
    amount_minor = serializers.IntegerField(
        required=False, min_value=0, max_value=10**12, help_text="Of a made-up order."
    )
    value = serializers.IntegerField(
        required=False, min_value=0, max_value=10**9, help_text="The number that a made-up event carries."
    )


class TrialOut(serializers.Serializer):
    points = serializers.IntegerField()
    because = serializers.CharField(help_text="Why, as the entry would say; empty for no points.")


class PresetOut(serializers.Serializer):
    key = serializers.CharField()
    name = serializers.CharField()
    about = serializers.CharField()
    is_installed = serializers.BooleanField()


class PreviewOut(serializers.Serializer):
    rules = serializers.ListField(child=serializers.CharField(), help_text="What gives points, a sentence each.")
    terms = serializers.ListField(child=serializers.CharField())
    answer = AnswerOut(
        help_text="The last year as if everybody had been in it: `draft` is the preset, `today` is the same."
    )


class PresetIn(serializers.Serializer):
    preset = serializers.SlugField(max_length=60)
    since_ever = serializers.BooleanField(default=False, help_text="Let orders and events of the past earn too.")


class RuleFilter(django_filters.FilterSet):
    programme = django_filters.CharFilter(field_name="programme__key", label="Key of the programme.")
    kind = django_filters.ChoiceFilter(choices=EarningRule.Kind.choices, label="Kind of rule.")
    is_current = django_filters.BooleanFilter(label="The version that holds, or those before it.")

    class Meta:
        model = EarningRule
        fields: list[str] = []


def _steps(given: list[dict[str, Any]]) -> list[tiers.Step]:
    return [
        tiers.Step(one["name"], one["threshold"], one["benefits"], one.get("key", ""), one["perks"]) for one in given
    ]


@described("Programmes", "One programme", tag="programmes")
class ProgrammeViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Programmes side by side, each with its tiers and in plain words."""

    scope = "programmes"
    queryset = Programme.objects.prefetch_related("tiers")
    serializer_class = ProgrammeOut
    lookup_field = "key"
    lookup_value_regex = "[-a-z0-9_]{1,60}"

    @extend_schema(
        summary="Add a programme", tags=["programmes"], request=ProgrammeIn, responses={201: ProgrammeOut, **REFUSED}
    )
    def create(self, request: Request) -> Response:
        callers.check_may_set_up(request)
        body = ProgrammeIn(data=request.data)
        body.is_valid(raise_exception=True)
        made = programmes.create(**body.validated_data)
        return Response(ProgrammeOut(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Change a programme",
        tags=["programmes"],
        request=ProgrammeChange,
        responses={200: ProgrammeOut, **REFUSED},
    )
    def partial_update(self, request: Request, key: str | None = None) -> Response:
        callers.check_may_set_up(request)
        body = ProgrammeChange(data=request.data, partial=True)
        body.is_valid(raise_exception=True)
        return Response(ProgrammeOut(programmes.edit(programme=self.get_object(), **body.validated_data)).data)

    @extend_schema(summary="Stop a programme", tags=["programmes"], request=None, responses={200: ProgrammeOut})
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, key: str | None = None) -> Response:
        callers.check_may_set_up(request)
        return Response(ProgrammeOut(programmes.stop(programme=self.get_object())).data)

    @extend_schema(summary="Let a programme go on", tags=["programmes"], request=None, responses={200: ProgrammeOut})
    @action(detail=True, methods=["post"])
    def start(self, request: Request, key: str | None = None) -> Response:
        callers.check_may_set_up(request)
        return Response(ProgrammeOut(programmes.start(programme=self.get_object())).data)

    @extend_schema(
        summary="Set the tiers of a programme",
        description="All of them at once. Everybody is looked at again; who has a tier keeps it by its key.",
        tags=["programmes"],
        request=LadderIn,
        responses={200: ProgrammeOut, **REFUSED},
    )
    @action(detail=True, methods=["post"])
    def tiers(self, request: Request, key: str | None = None) -> Response:
        callers.check_may_set_up(request)
        body = LadderIn(data=request.data)
        body.is_valid(raise_exception=True)
        given = dict(body.validated_data)
        tiers.set_ladder(programme=self.get_object(), steps=_steps(given.pop("tiers")), **given)
        return Response(ProgrammeOut(self.get_object()).data)

    @extend_schema(
        summary="What if: the last year under a draft",
        description="Orders and events of the last year told again under today's rules and under the draft. Nothing is written.",
        tags=["programmes"],
        request=WhatIfIn,
        responses={200: AnswerOut, **REFUSED},
    )
    @action(detail=True, methods=["post"], url_path="what-if")
    def what_if(self, request: Request, key: str | None = None) -> Response:
        body = WhatIfIn(data=request.data)
        body.is_valid(raise_exception=True)
        given, of = body.validated_data, self.get_object()
        draft: dict[str, Any] = {"value_minor_per_100": given.get("value_minor_per_100")}
        if "values" in given:
            seen = rules.get(given["rule"]) if "rule" in given else None
            draft["rules"] = whatif.rules_with(of, rules.drafted(of, given.get("kind", ""), given["values"], seen))
        if "ladder" in given:
            how = dict(given["ladder"])
            draft["steps"] = _steps(how.pop("tiers"))
            tiers.check(programme=of, steps=draft["steps"], **how)
            draft["ladder"] = Ladder(programme=of, **how)
        return Response(AnswerOut(whatif.ask(programme=of, draft=whatif.Draft(**draft))).data)

    @extend_schema(
        summary="Try a rule",
        description="What one order or event would earn in this programme with the rule in it. Nothing is written.",
        tags=["programmes"],
        request=TrialIn,
        responses={200: TrialOut, **REFUSED},
    )
    @action(detail=True, methods=["post"], url_path="try")
    def try_rule(self, request: Request, key: str | None = None) -> Response:
        body = TrialIn(data=request.data)
        body.is_valid(raise_exception=True)
        given, of = dict(body.validated_data), self.get_object()
        seen = rules.get(given.pop("rule")) if "rule" in given else None
        draft = rules.drafted(of, given.pop("kind", ""), given.pop("values", {}), seen)
        if "order" in given:
            given["order"] = trial.find_order(given["order"])
        if "customer" in given:
            given["customer"] = callers.known_customer(given["customer"])
        return Response(TrialOut(trial.ask(programme=of, rule=draft, **given)).data)

    @extend_schema(summary="Presets", tags=["programmes"], responses=PresetOut(many=True), filters=False)
    @action(detail=False, pagination_class=None)
    def presets(self, request: Request) -> Response:
        return Response(PresetOut(presets.PRESETS, many=True).data)

    @extend_schema(
        summary="A preset before it is installed",
        description="Its rules in words, and what last year's orders and events would have been under it. Writes nothing.",
        tags=["programmes"],
        responses={200: PreviewOut, **REFUSED},
    )
    @action(detail=False, pagination_class=None, url_path="presets/(?P<preset>[-a-z0-9_]{1,60})", url_name="preset")
    def preset(self, request: Request, preset: str) -> Response:
        return Response(PreviewOut(whatif.of_preset(presets.get(preset))).data)

    @extend_schema(
        summary="Install a preset", tags=["programmes"], request=PresetIn, responses={201: ProgrammeOut, **REFUSED}
    )
    @action(detail=False, methods=["post"])
    def install(self, request: Request) -> Response:
        callers.check_may_set_up(request)
        body = PresetIn(data=request.data)
        body.is_valid(raise_exception=True)
        made = presets.install(
            preset=presets.get(body.validated_data["preset"]),
            actor=callers.person(request),
            since_ever=body.validated_data["since_ever"],
        )
        return Response(ProgrammeOut(made).data, status=status.HTTP_201_CREATED)


@described("Earning rules", "One version of an earning rule", tag="programmes")
class RuleViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """What gives points. A change is a new version from now on; what was earned is not computed again."""

    scope = "programmes"
    queryset = EarningRule.objects.select_related("programme", "segment")
    serializer_class = RuleOut
    filterset_class = RuleFilter

    @extend_schema(
        summary="Add an earning rule", tags=["programmes"], request=RuleIn, responses={201: RuleOut, **REFUSED}
    )
    def create(self, request: Request) -> Response:
        callers.check_may_set_up(request)
        body = RuleIn(data=request.data)
        body.is_valid(raise_exception=True)
        made = rules.create(actor=callers.person(request), **body.validated_data)
        return Response(RuleOut(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Change an earning rule", tags=["programmes"], request=RuleChange, responses={200: RuleOut, **REFUSED}
    )
    def partial_update(self, request: Request, pk: str | None = None) -> Response:
        callers.check_may_set_up(request)
        body = RuleChange(data=request.data, partial=True)
        body.is_valid(raise_exception=True)
        made = rules.edit(rule=self.get_object(), actor=callers.person(request), **body.validated_data)
        return Response(RuleOut(made).data)

    @extend_schema(
        summary="Stop an earning rule", tags=["programmes"], request=None, responses={200: RuleOut, **REFUSED}
    )
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, pk: str | None = None) -> Response:
        callers.check_may_set_up(request)
        return Response(RuleOut(rules.stop(rule=self.get_object())).data)


ROUTES: list[tuple[str, Any, str]] = [
    ("programmes", ProgrammeViewSet, "programme"),
    ("earning-rules", RuleViewSet, "earning-rule"),
]
