"""REST: what webhooks were to tell other systems. Scope noun ``webhooks``."""

from __future__ import annotations

from typing import Any

import django_filters
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from campaigns import hooks
from campaigns.models import WebhookDelivery
from lifecycle_crm.accounts.callers import need
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib.api import OfCustomer, described


class WebhookDeliveryOut(serializers.ModelSerializer):
    """``number`` is what the other system got in ``X-Lifecycle-Delivery``."""

    target = serializers.CharField(source="target.key")
    journey = serializers.IntegerField(source="run.journey_id")
    due_at = serializers.DateTimeField(allow_null=True, help_text="Next try.")
    created_at = serializers.DateTimeField()
    settled_at = serializers.DateTimeField(allow_null=True)
    fields = serializers.ListField(child=serializers.CharField(), help_text="What is told besides ids.")  # type: ignore[assignment]

    class Meta:
        model = WebhookDelivery
        fields = [
            "id", "number", "target", "journey", "run", "step", "customer", "fields", "state", "due_at", "tries", "status",
            "error", "created_at", "settled_at",
        ]  # fmt: skip


class WebhookDeliveryFilter(OfCustomer):
    target = django_filters.CharFilter(field_name="target__key", label="Key of the webhook.")
    state = django_filters.ChoiceFilter(choices=WebhookDelivery.State.choices, label="State.")

    class Meta:
        model = WebhookDelivery
        fields: list[str] = []


@described("Deliveries of webhooks", "One delivery", tag="webhooks")
class WebhookDeliveryViewSet(ReadOnlyModelViewSet):
    """What journeys told other systems, and what could not be told."""

    scope = "webhooks"
    queryset = hooks.deliveries()
    serializer_class = WebhookDeliveryOut
    filterset_class = WebhookDeliveryFilter

    @extend_schema(summary="Try it again", tags=["webhooks"], request=None, responses={200: WebhookDeliveryOut})
    @action(detail=True, methods=["post"])
    def again(self, request: Request, pk: Any = None) -> Response:
        """One that was given up, from the first try on. 409 for any other."""
        need(request, User.may_steer)
        one = self.get_object()
        hooks.send_again(deliveries=WebhookDelivery.objects.filter(pk=one.pk))
        return Response(WebhookDeliveryOut(self.get_object()).data)


ROUTES = [("webhook-deliveries", WebhookDeliveryViewSet, "webhook-delivery")]
