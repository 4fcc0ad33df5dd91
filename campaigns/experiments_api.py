"""REST: experiments. Scope noun ``campaigns``."""

from __future__ import annotations

from typing import Any

import django_filters
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_view
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from campaigns.experiments import asking, life, reading, words
from campaigns.experiments.asking import Wanted
from campaigns.models import LABELS, Campaign, Experiment, ExperimentDay, ExperimentVerdict, ExperimentVersion, Template
from lifecycle_crm.accounts.callers import need
from lifecycle_crm.accounts.models import User


class ExperimentVersionOut(serializers.ModelSerializer):
    template: Any = serializers.SlugRelatedField(slug_field="key", read_only=True)

    class Meta:
        model = ExperimentVersion
        fields = ["id", "label", "template", "hour", "is_general", "share", "variants"]


class ExperimentVerdictOut(serializers.ModelSerializer):
    """The one look, with the numbers as they were then."""

    winner = serializers.CharField(source="winner.label", default=None, allow_null=True)

    class Meta:
        model = ExperimentVerdict
        fields = ["kind", "winner", "is_yellow", "business_date", "numbers"]


class ExperimentOut(serializers.ModelSerializer):
    """``needed`` people per version and ``base``, what is done today, are fixed at the start."""

    chosen = serializers.CharField(
        source="chosen.label", default=None, allow_null=True, help_text="The version that was taken for everyone."
    )
    versions = ExperimentVersionOut(many=True)
    verdict = serializers.SerializerMethodField()

    class Meta:
        model = Experiment
        fields = [
            "id", "key", "name", "campaign", "state", "measure", "lift_percent", "window_days", "stated_percent", "base",
            "needed", "versions", "verdict", "chosen", "created_at", "started_at", "ended_at",
        ]  # fmt: skip

    @extend_schema_field(ExperimentVerdictOut(allow_null=True))
    def get_verdict(self, experiment: Experiment) -> Any:
        verdict = words.verdict_of(experiment)
        return ExperimentVerdictOut(verdict).data if verdict else None


class ExperimentVersionIn(serializers.Serializer):
    """A version. The first, A, says what the campaign says today: of it only the share counts."""

    share = serializers.IntegerField(min_value=1, max_value=99, help_text="Per cent; together 100.")
    template: Any = serializers.SlugRelatedField(
        slug_field="key", queryset=Template.objects.all(), required=False, allow_null=True, default=None,
        help_text="Its key; left out, the campaign's own text.",
    )  # fmt: skip
    hour = serializers.IntegerField(min_value=0, max_value=23, required=False, allow_null=True, default=None)
    is_general = serializers.BooleanField(default=False, help_text="Without personal values.")


class ExperimentIn(serializers.Serializer):
    campaign: Any = serializers.PrimaryKeyRelatedField(queryset=Campaign.objects.select_related("template"))
    name = serializers.CharField(max_length=120)
    measure = serializers.ChoiceField(choices=Experiment.Measure.choices, default=Experiment.Measure.CLICK)
    lift_percent = serializers.IntegerField(
        min_value=1, max_value=500, default=20, help_text="The smallest difference worth having, in per cent of today."
    )
    window_days = serializers.IntegerField(min_value=1, max_value=60, default=7)
    stated_percent = serializers.FloatField(
        required=False, allow_null=True, default=None, help_text="The share today, where it cannot be measured."
    )
    versions = ExperimentVersionIn(many=True)


class ExperimentAnswerOut(serializers.Serializer):
    """What is known before the start. A problem is why it cannot start."""

    sentences = serializers.ListField(child=serializers.CharField())
    needed = serializers.IntegerField(allow_null=True, help_text="People per version.")
    now = serializers.FloatField(allow_null=True, help_text="The measure today: a share, or minor units per person.")
    then = serializers.FloatField(allow_null=True, help_text="With the smallest difference.")
    audience = serializers.IntegerField(allow_null=True, help_text="People a one-off message would reach.")
    per_day = serializers.FloatField(allow_null=True, help_text="People a day, of a campaign that goes on.")
    days = serializers.IntegerField(allow_null=True)
    smallest_lift = serializers.FloatField(
        source="seen", allow_null=True, help_text="What the audience shows at least; 0.5 is half as much again."
    )
    problem = serializers.CharField(allow_null=True)


class ExperimentDayOut(serializers.ModelSerializer):
    version = serializers.CharField(source="version.label")

    class Meta:
        model = ExperimentDay
        fields = [
            "business_date", "version", "joined", "people", "clicked", "ordered", "spent_minor", "unsubscribed",
            "complained", "failed",
        ]  # fmt: skip


class ExperimentResultOut(serializers.Serializer):
    """The verdict in a sentence with its three numbers, and what the nights kept. The days are not for deciding."""

    status = serializers.CharField()
    numbers = serializers.ListField(child=serializers.CharField())
    warnings = serializers.ListField(child=serializers.CharField())
    progress = serializers.FloatField(help_text="Share of the planned number of people, 0 to 1.")
    ready = serializers.DateField(allow_null=True, help_text="About when the verdict comes.")
    verdict = ExperimentVerdictOut(allow_null=True)
    days = ExperimentDayOut(many=True)


class ExperimentUseIn(serializers.Serializer):
    version = serializers.ChoiceField(choices=LABELS)


class ExperimentFilter(django_filters.FilterSet):
    campaign = django_filters.NumberFilter(label="Id of the campaign.")

    class Meta:
        model = Experiment
        fields = ["state"]


@extend_schema_view(
    create=extend_schema(request=ExperimentIn, responses={201: ExperimentOut}),
    list=extend_schema(summary="Experiments"),
)
@extend_schema(tags=["campaigns"])
class ExperimentViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Which version of a message does better, asked once; the newest first."""

    scope = "campaigns"
    queryset = reading.experiments().prefetch_related("versions__template")
    serializer_class = ExperimentOut
    filterset_class = ExperimentFilter

    def create(self, request: Request) -> Response:
        """Make a draft. Nothing changes for anybody before ``start``."""
        user = need(request, User.may_steer)
        body = ExperimentIn(data=request.data)
        body.is_valid(raise_exception=True)
        values = dict(body.validated_data)
        versions = [Wanted(**one) for one in values.pop("versions")]
        made = asking.create(versions=versions, actor=user, **values)
        return Response(ExperimentOut(made).data, status=status.HTTP_201_CREATED)

    def destroy(self, request: Request, pk: Any = None) -> Response:
        """Discard a draft. 409 for one that was started."""
        need(request, User.may_steer)
        life.discard(experiment=self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(responses={200: ExperimentAnswerOut})
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def answer(self, request: Request, pk: Any = None) -> Response:
        """How many people it needs and how long that takes, as things are now."""
        experiment = self.get_object()
        found = asking.answer(experiment)
        told = {name: getattr(found, name) for name in found.__slots__}
        told |= {
            "sentences": words.answer(experiment, found),
            "problem": found.problem.message if found.problem else None,
        }
        return Response(ExperimentAnswerOut(told).data)

    @extend_schema(responses={200: ExperimentResultOut})
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def result(self, request: Request, pk: Any = None) -> Response:
        """The verdict, or how far it is, and what the nights kept."""
        experiment = self.get_object()
        days = reading.days_of([experiment.pk]).get(experiment.pk, [])
        stands, verdict = reading.progress(experiment, days), words.verdict_of(experiment)
        told = {
            "status": words.status(experiment, stands),
            "numbers": words.numbers(experiment, verdict) if verdict else [],
            "warnings": words.why(verdict) if verdict else [],
            "progress": stands.share,
            "ready": stands.ready if verdict is None else None,
            "verdict": verdict,
            "days": days,
        }
        return Response(ExperimentResultOut(told).data)

    @extend_schema(request=None, responses={200: ExperimentOut})
    @action(detail=True, methods=["post"])
    def start(self, request: Request, pk: Any = None) -> Response:
        """From now on chance decides who gets which version."""
        user = need(request, User.may_steer)
        return Response(ExperimentOut(life.start(experiment=self.get_object(), actor=user)).data)

    @extend_schema(request=None, responses={200: ExperimentOut})
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, pk: Any = None) -> Response:
        """Everybody gets what the campaign says. Before the verdict there will be none."""
        user = need(request, User.may_steer)
        return Response(ExperimentOut(life.stop(experiment=self.get_object(), actor=user)).data)

    @extend_schema(request=ExperimentUseIn, responses={200: ExperimentOut})
    @action(detail=True, methods=["post"])
    def use(self, request: Request, pk: Any = None) -> Response:
        """Take one version for everyone, after the verdict; its words become the next version of the campaign's text."""
        user = need(request, User.may_steer)
        body = ExperimentUseIn(data=request.data)
        body.is_valid(raise_exception=True)
        experiment = self.get_object()
        done = life.use_for_everyone(experiment=experiment, label=body.validated_data["version"], actor=user)
        return Response(ExperimentOut(done).data)

    @extend_schema(request=None, responses={201: ExperimentOut})
    @action(detail=True, methods=["post"])
    def again(self, request: Request, pk: Any = None) -> Response:
        """A new draft with the same versions."""
        user = need(request, User.may_steer)
        made = life.ask_again(experiment=self.get_object(), actor=user)
        return Response(ExperimentOut(made).data, status=status.HTTP_201_CREATED)


ROUTES = [("experiments", ExperimentViewSet, "experiment")]
