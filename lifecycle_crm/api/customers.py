"""Customers as the API shows them: with the reason they stand where they stand, which only a floor above them knows."""

from __future__ import annotations

from typing import Any

from django.db.models import OuterRef, Prefetch, Subquery
from rest_framework import serializers

from customers import api
from customers.models import Customer
from stages import evidence
from stages.models import StageTransition

_LAST = StageTransition.objects.filter(customer=OuterRef("customer")).order_by("-pk").values("pk")[:1]


class CustomerOut(api.CustomerOut):
    stage_reason = serializers.SerializerMethodField(help_text="The last move and why, as a sentence.")

    class Meta(api.CustomerOut.Meta):
        fields = [*api.CustomerOut.Meta.fields, "stage_reason"]
        read_only_fields = fields

    def get_stage_reason(self, customer: Customer) -> str:
        moves: list[StageTransition] = getattr(customer, "last_moves", [])
        return evidence.reason(moves[0]) if moves else ""


class CustomerViewSet(api.CustomerViewSet):
    __doc__ = api.CustomerViewSet.__doc__

    serializer_class = CustomerOut
    queryset = api.CustomerViewSet.queryset.prefetch_related(
        Prefetch(
            "transitions",
            StageTransition.objects.filter(pk=Subquery(_LAST)).prefetch_related("rule_set", "user"),
            to_attr="last_moves",
        )
    )


ROUTES: list[tuple[str, Any, str]] = [
    (prefix, CustomerViewSet if viewset is api.CustomerViewSet else viewset, name)
    for prefix, viewset, name in api.ROUTES
]
