"""REST: journeys, who is inside, publishing and trying. Scope noun ``campaigns``."""

from __future__ import annotations

from typing import Any

import django_filters
from django.conf import settings
from django.db import transaction
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet, ReadOnlyModelViewSet

from campaigns import playbooks
from campaigns.journeys import publishing, results, trying
from campaigns.models import Journey, JourneyRun, JourneyStep, JourneyVersion
from customers.models import Customer
from lifecycle_crm.accounts.callers import need, sees_contacts
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib.api import OfCustomer
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.numbers import row_number


class JourneyOut(serializers.ModelSerializer):
    """``draft`` is the tree being edited; ``version`` the number of the one in force, 0 for none."""

    class Meta:
        model = Journey
        fields = [
            "id", "key", "name", "state", "version", "draft", "edits", "again", "again_days", "holdout_percent", "exits",
            "goal", "goal_days", "live_since", "stale", "guard", "created_at",
        ]  # fmt: skip


class JourneySettings(serializers.Serializer):
    """What holds for everybody from now on, without publishing."""

    name = serializers.CharField(max_length=120, required=False)
    again = serializers.ChoiceField(choices=Journey.Again.choices, required=False)
    again_days = serializers.IntegerField(min_value=1, max_value=3650, required=False)
    holdout_percent = serializers.IntegerField(min_value=0, max_value=90, required=False)
    exits = serializers.JSONField(required=False, help_text="A list of conditions, asked before each step.")
    goal = serializers.JSONField(required=False, help_text='{"order": true}, {"event": "its name"} or {}.')
    goal_days = serializers.IntegerField(min_value=1, max_value=365, required=False)


class JourneyIn(JourneySettings):
    name = serializers.CharField(max_length=120)
    key = serializers.SlugField(max_length=60, required=False)
    tree = serializers.JSONField(
        required=False, help_text='{"trigger": {…}, "steps": […]}; steps with an id and a kind.'
    )


class JourneyChange(JourneySettings):
    """Settings, and the draft as a whole. ``edits`` refuses (409) when somebody saved since it was read."""

    tree = serializers.JSONField(required=False)
    edits = serializers.IntegerField(min_value=0, required=False)


class JourneyPublishIn(serializers.Serializer):
    note = serializers.CharField(max_length=300, required=False, allow_blank=True)
    edits = serializers.IntegerField(min_value=0, required=False)


class VersionOut(serializers.ModelSerializer):
    class Meta:
        model = JourneyVersion
        fields = ["id", "number", "tree", "note", "published_at"]


class ProblemOut(serializers.Serializer):
    step = serializers.CharField(help_text="Empty for the trigger and the whole.")
    sentence = serializers.CharField()


class JourneyEffectOut(serializers.Serializer):
    step = serializers.CharField()
    kind = serializers.CharField(help_text="changed or removed.")
    inside = serializers.IntegerField(help_text="People who stand in it.")
    at_once = serializers.IntegerField(help_text="Those of them who go on at once.")
    to = serializers.CharField(help_text="Where they go when it is removed; empty for the end.")


class CheckOut(serializers.Serializer):
    """What keeps the draft from being published, and what publishing does to people inside."""

    problems = ProblemOut(many=True)
    effects = JourneyEffectOut(many=True)


class GroupOut(serializers.Serializer):
    people = serializers.IntegerField()
    reached = serializers.IntegerField()
    spent_minor = serializers.IntegerField(help_text="Orders within the days of the goal, net of refunds.")


class UpliftOut(serializers.Serializer):
    """Null where a group has fewer than 100 people."""

    treated = GroupOut()
    held_out = GroupOut()
    extra = serializers.IntegerField(allow_null=True, help_text="Extra customers who reached the goal.")
    low = serializers.IntegerField(allow_null=True, help_text="With low and high: a 95 % interval.")
    high = serializers.IntegerField(allow_null=True)
    spent_minor = serializers.IntegerField(allow_null=True, help_text="Extra revenue.")
    spent_low_minor = serializers.IntegerField(allow_null=True)
    spent_high_minor = serializers.IntegerField(allow_null=True)
    is_clear = serializers.BooleanField(help_text="Chance alone does not explain the extra customers.")
    is_money_clear = serializers.BooleanField()


class CausedOut(serializers.Serializer):
    """What it caused by comparison with those held out, each person by their first entry, and what it cost."""

    sentence = serializers.CharField(help_text="Empty without a goal.")
    uplift = UpliftOut()
    messages = serializers.IntegerField()
    messages_minor = serializers.IntegerField()
    points = serializers.IntegerField()
    points_minor = serializers.IntegerField()
    cost_minor = serializers.IntegerField()
    currency = serializers.CharField()
    since = serializers.DateTimeField(allow_null=True, help_text="First entry that counts.")
    until = serializers.DateTimeField(allow_null=True)


_OF_CAUSED = ("uplift", "messages", "messages_minor", "points", "points_minor", "cost_minor", "since", "until")


class ResultsOut(serializers.Serializer):
    entered = serializers.IntegerField()
    reached = serializers.IntegerField(help_text="Of those who entered, within the days of the goal.")
    held_out = serializers.IntegerField()
    held_out_reached = serializers.IntegerField()
    states = serializers.DictField(child=serializers.IntegerField())
    steps = serializers.DictField(child=serializers.IntegerField(), help_text="Entries that passed each step.")
    tasks = serializers.DictField(
        child=serializers.DictField(child=serializers.IntegerField()),
        help_text="Tasks per state of each step with some.",
    )
    webhooks = serializers.DictField(
        child=serializers.DictField(child=serializers.IntegerField()),
        help_text="Deliveries to other systems per state of each step with some.",
    )
    caused = CausedOut()


class StepOut(serializers.ModelSerializer):
    at = serializers.DateTimeField()

    class Meta:
        model = JourneyStep
        fields = ["step", "at", "outcome", "data"]


class JourneyRunOut(serializers.ModelSerializer):
    since = serializers.DateTimeField(allow_null=True)
    due_at = serializers.DateTimeField(allow_null=True, help_text="When they are looked at next.")
    entered_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)
    goal_at = serializers.DateTimeField(allow_null=True)

    class Meta:
        model = JourneyRun
        fields = [
            "id", "journey", "customer", "key", "number", "state", "reason", "step", "since", "due_at", "entered_at",
            "ended_at", "goal_at", "night",
        ]  # fmt: skip


class WayOut(JourneyRunOut):
    steps = StepOut(many=True)

    class Meta(JourneyRunOut.Meta):
        fields = [*JourneyRunOut.Meta.fields, "steps"]


class MoveIn(serializers.Serializer):
    to = serializers.CharField(max_length=20, help_text="Id of a step of the version in force.")
    why = serializers.CharField(max_length=200)


class RemoveIn(serializers.Serializer):
    why = serializers.CharField(max_length=200)


class TriedOut(serializers.Serializer):
    step = serializers.CharField()
    at = serializers.DateTimeField()
    outcome = serializers.CharField()
    data: Any = serializers.JSONField()
    asked = serializers.SerializerMethodField(help_text="Conditions of a split: branch, holds, because.")
    subject = serializers.CharField()
    text = serializers.CharField()
    problem = serializers.CharField()
    verdict = serializers.SerializerMethodField(help_text="What the gate would say at that moment.")

    def get_asked(self, one: trying.Tried) -> list[dict[str, Any]]:
        return [{"branch": number, "holds": holds, "because": why} for number, holds, why in one.asked]

    def get_verdict(self, one: trying.Tried) -> dict[str, Any] | None:
        return None if one.verdict is None else one.verdict.as_json()


class JourneyTrialOut(serializers.Serializer):
    is_held_out = serializers.BooleanField(help_text="This person would get nothing on purpose.")
    steps = TriedOut(many=True)


class JourneyFilter(django_filters.FilterSet):
    class Meta:
        model = Journey
        fields = ["state"]


class JourneyRunFilter(OfCustomer):
    journey = django_filters.NumberFilter(field_name="journey_id", label="Id of the journey.")

    class Meta:
        model = JourneyRun
        fields = ["state", "step"]


@extend_schema_view(list=extend_schema(summary="Journeys"))
@extend_schema(tags=["campaigns"])
class JourneyViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    scope = "campaigns"
    queryset = Journey.objects.order_by("-id")
    serializer_class = JourneyOut
    filterset_class = JourneyFilter

    @extend_schema(request=JourneyIn, responses={201: JourneyOut})
    def create(self, request: Request) -> Response:
        """Make a draft. Nobody enters before it is published."""
        user = need(request, User.may_steer)
        body = JourneyIn(data=request.data)
        body.is_valid(raise_exception=True)
        journey = publishing.create(actor=user, **body.validated_data)
        return Response(JourneyOut(journey).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=JourneyChange, responses={200: JourneyOut})
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Change settings (at once) and the draft (in force when it is published)."""
        need(request, User.may_steer)
        body = JourneyChange(data=request.data)
        body.is_valid(raise_exception=True)
        values = dict(body.validated_data)
        journey, tree, edits = self.get_object(), values.pop("tree", None), values.pop("edits", None)
        with transaction.atomic():
            if tree is not None:
                journey = publishing.save(journey=journey, tree=tree, edits=edits)
            if values:
                journey = publishing.set_up(journey=journey, **values)
        return Response(JourneyOut(journey).data)

    @extend_schema(responses={200: CheckOut})
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def check(self, request: Request, pk: Any = None) -> Response:
        """What keeps the draft from being published, and what publishing would do to people inside."""
        journey = self.get_object()
        problems = publishing.problems(journey)
        effects = publishing.effects(journey) if not problems else []
        return Response(CheckOut({"problems": problems, "effects": effects}).data)

    @extend_schema(request=JourneyPublishIn, responses={201: VersionOut})
    @action(detail=True, methods=["post"])
    def publish(self, request: Request, pk: Any = None) -> Response:
        """Make the draft the version in force; the first time people may enter from now on."""
        user = need(request, User.may_steer)
        body = JourneyPublishIn(data=request.data)
        body.is_valid(raise_exception=True)
        version = publishing.publish(journey=self.get_object(), actor=user, **body.validated_data)
        return Response(VersionOut(version).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses={200: JourneyOut})
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: Any = None) -> Response:
        """Nobody enters, nobody goes on, and what waits in the outbox stays there."""
        need(request, User.may_steer)
        return Response(JourneyOut(publishing.pause(journey=self.get_object())).data)

    @extend_schema(request=None, responses={200: JourneyOut})
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: Any = None) -> Response:
        """Go on. What would have let people in meanwhile does not."""
        need(request, User.may_steer)
        return Response(JourneyOut(publishing.resume(journey=self.get_object())).data)

    @extend_schema(request=None, responses={200: JourneyOut})
    @action(detail=True, methods=["post"])
    def end(self, request: Request, pk: Any = None) -> Response:
        """For good: who is inside is taken out, what waits in the outbox is called off, and open tasks are withdrawn."""
        need(request, User.may_steer)
        journey = self.get_object()
        publishing.end(journey=journey)
        return Response(JourneyOut(journey).data)

    @extend_schema(responses={200: VersionOut(many=True)})
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def versions(self, request: Request, pk: Any = None) -> Response:
        """Everything that was published, newest first."""
        return Response(VersionOut(self.get_object().versions.order_by("-number")[:100], many=True).data)

    @extend_schema(responses={200: ResultsOut})
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def results(self, request: Request, pk: Any = None) -> Response:
        """Who entered, who was held out, who of both reached the goal, how many passed each step, and what it caused."""
        journey = self.get_object()
        found = results.caused(journey)
        caused = {
            **{name: getattr(found, name) for name in _OF_CAUSED},
            "sentence": results.sentence(journey, found),
            "currency": settings.SHOP_CURRENCY,
        }
        counts = {
            **results.of(journey),
            "steps": results.steps_taken(journey),
            "tasks": results.tasks_by_step(journey),
            "webhooks": results.webhooks_by_step(journey),
            "caused": caused,
        }
        return Response(ResultsOut(counts).data)

    @extend_schema(
        operation_id="journeys_try",
        parameters=[OpenApiParameter("customer", int, required=True, description="Id of the customer.")],
        responses={200: JourneyTrialOut},
    )
    @action(detail=True, methods=["get"], url_path="try", pagination_class=None, filter_backends=[])
    def attempt(self, request: Request, pk: Any = None) -> Response:
        """The draft, walked by one customer: steps, dates, conditions, messages and what the gate would say. Nothing is
        written; the words of messages only for who may see who a customer is."""
        wanted = row_number(request.query_params.get("customer"))
        if wanted is None:
            raise InvalidInput("Name the customer: ?customer= and their id.", code="no_customer")
        trial = trying.attempt(journey=self.get_object(), customer=get_object_or_404(Customer, pk=wanted))
        answer = JourneyTrialOut(trial).data
        if not sees_contacts(request):
            for one in answer["steps"]:
                one["subject"] = one["text"] = ""
        return Response(answer)


@extend_schema(tags=["campaigns"])
class JourneyRunViewSet(ReadOnlyModelViewSet):
    """People's ways through journeys, newest first."""

    scope = "campaigns"
    queryset = JourneyRun.objects.order_by("-id")
    filterset_class = JourneyRunFilter

    def get_serializer_class(self) -> type[serializers.BaseSerializer]:
        return WayOut if self.action == "retrieve" else JourneyRunOut

    @extend_schema(request=MoveIn, responses={200: JourneyRunOut})
    @action(detail=True, methods=["post"])
    def move(self, request: Request, pk: Any = None) -> Response:
        """Put one person inside before another step, with a reason. What they had already is not given again."""
        user = need(request, User.may_steer)
        body = MoveIn(data=request.data)
        body.is_valid(raise_exception=True)
        run = publishing.move(run=self.get_object(), actor=user, **body.validated_data)
        return Response(JourneyRunOut(run).data)

    @extend_schema(request=RemoveIn, responses={200: JourneyRunOut})
    @action(detail=True, methods=["post"])
    def remove(self, request: Request, pk: Any = None) -> Response:
        """Take one person out, with a reason. What has left cannot be called back."""
        user = need(request, User.may_steer)
        body = RemoveIn(data=request.data)
        body.is_valid(raise_exception=True)
        run = publishing.remove(run=self.get_object(), actor=user, why=body.validated_data["why"])
        return Response(JourneyRunOut(run).data)


class PlaybookOut(serializers.Serializer):
    key = serializers.CharField(source="start.key")
    stage = serializers.CharField(source="start.stage")
    name = serializers.CharField(source="start.name")
    text = serializers.CharField(source="start.text")
    journey = serializers.IntegerField(
        source="journey.pk", allow_null=True, default=None, help_text="The journey that was made of it."
    )


@extend_schema(tags=["campaigns"])
class PlaybookViewSet(GenericViewSet):
    """Journeys for the stages, with all their words."""

    scope = "campaigns"
    queryset = Journey.objects.none()
    serializer_class = PlaybookOut
    lookup_field = "key"
    pagination_class = None
    filter_backends = ()

    @extend_schema(responses={200: PlaybookOut(many=True)})
    def list(self, request: Request) -> Response:
        """All of them, in the order of the stages, with the journey that was made of each."""
        return Response(PlaybookOut(playbooks.listed(), many=True).data)

    @extend_schema(request=None, responses={201: JourneyOut})
    @action(detail=True, methods=["post"])
    def install(self, request: Request, key: str = "") -> Response:
        """Make its journey as a draft, with its texts in every language. 409 when it was installed before."""
        user = need(request, User.may_steer)
        journey = playbooks.install(key=key, actor=user)
        return Response(JourneyOut(journey).data, status=status.HTTP_201_CREATED)


ROUTES = [
    ("playbooks", PlaybookViewSet, "playbook"),
    ("journeys", JourneyViewSet, "journey"),
    ("journey-runs", JourneyRunViewSet, "journey-run"),
]
