"""REST: campaigns, runs and messages. Scope noun ``campaigns``."""

from __future__ import annotations

from typing import Any

import django_filters
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet, ReadOnlyModelViewSet

from campaigns import audience, gate, queries, runs
from campaigns.experiments_api import ROUTES as EXPERIMENTS
from campaigns.hooks_api import ROUTES as WEBHOOKS
from campaigns.journeys_api import ROUTES as JOURNEYS
from campaigns.models import Campaign, Message, Run, Template
from campaigns.signups_api import ROUTES as SIGN_UPS
from campaigns.tasks_api import ROUTES as TASKS
from campaigns.templates_api import TemplateViewSet
from campaigns.whom_api import ROUTES as WHOM
from customers.models import Customer
from lifecycle_crm.accounts.callers import need, sees_contacts
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.api import OfCustomer
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.numbers import row_number


class CampaignOut(serializers.ModelSerializer):
    template: Any = serializers.SlugRelatedField(slug_field="key", read_only=True)

    class Meta:
        model = Campaign
        fields = [
            "id", "key", "name", "kind", "purpose", "channel", "template", "audience", "holdout_percent", "state",
            "cap_per_day", "cap_per_week", "quiet_from", "quiet_until", "created_at",
        ]  # fmt: skip


class CampaignIn(serializers.Serializer):
    """A draft of a one-off message."""

    name = serializers.CharField(max_length=120)
    template: Any = serializers.SlugRelatedField(
        slug_field="key", queryset=Template.objects.all(), help_text="Its key."
    )
    audience = serializers.JSONField(
        help_text='A condition over the facts, such as {"fact": "stage", "op": "in", "value": ["retain"]}.'
    )
    holdout_percent = serializers.IntegerField(min_value=0, max_value=90, default=10)


class RunOut(serializers.ModelSerializer):
    states = serializers.SerializerMethodField(help_text="Messages per state; they add up to the audience.")

    class Meta:
        model = Run
        fields = ["id", "campaign", "key", "state", "as_of", "audience", "states", "guard", "created_at", "finished_at"]

    def get_states(self, run: Run) -> dict[str, int]:
        known = self.context.get("states")
        return (known if known is not None else queries.states_of([run.pk])).get(run.pk, {})


class MessageOut(serializers.ModelSerializer):
    campaign = serializers.IntegerField(source="run.campaign_id")
    reason_text = serializers.CharField(source="get_reason_display", help_text="The reason in words.")

    class Meta:
        model = Message
        fields = [
            "id", "run", "campaign", "customer", "channel", "version", "state", "reason", "reason_text", "verdict", "consent",
            "address", "language", "tries", "due_at", "sent_at", "parts", "transport", "message_id", "error", "created_at",
        ]  # fmt: skip

    def to_representation(self, message: Message) -> dict[str, Any]:
        answer: dict[str, Any] = super().to_representation(message)
        if not sees_contacts(self.context["request"]):
            if message.address:
                answer["error"] = answer["error"].replace(message.address, "…")
            answer["address"] = ""
        return answer


class VerdictOut(serializers.Serializer):
    outcome = serializers.CharField(help_text="sent, held_until or skipped.")
    reason = serializers.CharField()
    at = serializers.DateTimeField(allow_null=True, help_text="Held until.")
    evidence = serializers.JSONField()


class AskedOut(serializers.Serializer):
    check = serializers.CharField(help_text="The reason it asks about.")
    verdict = VerdictOut(allow_null=True, help_text="Null when it does nothing to the message.")


class GateOut(serializers.Serializer):
    """The verdict, and every check in order; the first that does something decides."""

    verdict = VerdictOut()
    asked = AskedOut(many=True)


class CampaignFilter(django_filters.FilterSet):
    class Meta:
        model = Campaign
        fields = ["kind", "state", "purpose", "channel"]


class RunFilter(django_filters.FilterSet):
    campaign = django_filters.NumberFilter(label="Id of the campaign.")

    class Meta:
        model = Run
        fields = ["state"]


class MessageFilter(OfCustomer):
    run = django_filters.NumberFilter(field_name="run_id", label="Id of the run.")
    campaign = django_filters.NumberFilter(field_name="run__campaign_id", label="Id of the campaign.")

    version = django_filters.NumberFilter(field_name="version_id", label="Id of the version, in an experiment.")

    class Meta:
        model = Message
        fields = ["state", "reason", "channel"]


@extend_schema_view(
    create=extend_schema(request=CampaignIn, responses={201: CampaignOut}), list=extend_schema(summary="Campaigns")
)
@extend_schema(tags=["campaigns"])
class CampaignViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    scope = "campaigns"
    queryset = queries.campaigns()
    serializer_class = CampaignOut
    filterset_class = CampaignFilter

    def create(self, request: Request) -> Response:
        """Make a draft. Nothing leaves before ``send``."""
        user = need(request, User.may_steer)
        body = CampaignIn(data=request.data)
        body.is_valid(raise_exception=True)
        campaign = audience.draft(**body.validated_data, user=user)
        return Response(CampaignOut(campaign).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        parameters=[OpenApiParameter("customer", int, required=True, description="Id of the customer.")],
        responses={200: GateOut},
    )
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def gate(self, request: Request, pk: Any = None) -> Response:
        """What the gate would say of one customer now, and everything it asks."""
        wanted = row_number(request.query_params.get("customer"))
        if wanted is None:
            raise InvalidInput("Name the customer: ?customer= and their id.", code="no_customer")
        campaign = self.get_object()
        customer = get_object_or_404(Customer, pk=wanted)
        verdict, asked = gate.answers(customer.pk, campaign, clock.now())
        return Response(GateOut({"verdict": verdict, "asked": asked}).data)

    @extend_schema(request=None, responses={202: RunOut})
    @action(detail=True, methods=["post"])
    def send(self, request: Request, pk: Any = None) -> Response:
        """Freeze the audience as it is now and start sending; a second call is refused with 409."""
        need(request, User.may_steer)
        run = audience.send(campaign=self.get_object())
        return Response(RunOut(run).data, status=status.HTTP_202_ACCEPTED)


@extend_schema(tags=["campaigns"])
class RunViewSet(ReadOnlyModelViewSet):
    scope = "campaigns"
    queryset = Run.objects.order_by("-id")
    serializer_class = RunOut
    filterset_class = RunFilter

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        runs = self.paginate_queryset(self.filter_queryset(self.get_queryset())) or []
        states = queries.states_of(run.pk for run in runs)
        return self.get_paginated_response(RunOut(runs, many=True, context={"states": states}).data)

    @extend_schema(request=None, responses={200: RunOut})
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: Any = None) -> Response:
        """Stop within one message per sender."""
        need(request, User.may_steer)
        return Response(RunOut(runs.pause(run=self.get_object())).data)

    @extend_schema(request=None, responses={200: RunOut})
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: Any = None) -> Response:
        """Go on where it stopped."""
        need(request, User.may_steer)
        return Response(RunOut(runs.resume(run=self.get_object())).data)

    @extend_schema(request=None, responses={200: RunOut})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: Any = None) -> Response:
        """Send nothing more of it. What has left cannot be called back."""
        need(request, User.may_steer)
        run = self.get_object()
        runs.cancel(run=run)
        return Response(RunOut(run).data)


@extend_schema(tags=["campaigns"])
class MessageViewSet(ReadOnlyModelViewSet):
    scope = "campaigns"
    queryset = Message.objects.select_related("run").order_by("-id")
    serializer_class = MessageOut
    filterset_class = MessageFilter


ROUTES = [
    ("templates", TemplateViewSet, "template"),
    ("campaigns", CampaignViewSet, "campaign"),
    ("runs", RunViewSet, "run"),
    ("messages", MessageViewSet, "message"),
    *EXPERIMENTS,
    *JOURNEYS,
    *SIGN_UPS,
    *WHOM,
    *TASKS,
    *WEBHOOKS,
]
