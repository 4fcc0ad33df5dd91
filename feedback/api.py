"""REST: surveys, responses and cases. Scope noun ``feedback``."""

from __future__ import annotations

from typing import Any

import django_filters
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response as Reply
from rest_framework.viewsets import GenericViewSet

from customers.models import Customer
from feedback import cases, queries, surveys
from feedback.models import Case, Kind, Response, Survey
from lifecycle_crm.accounts.callers import person
from lifecycle_crm.lib.api import BIGGEST_ID, OfCustomer, described
from lifecycle_crm.lib.errors import NotFound


class SurveyOut(serializers.ModelSerializer):
    lowest = serializers.IntegerField(help_text="Lowest score.")
    highest = serializers.IntegerField(help_text="Highest score.")
    texts = serializers.DictField(
        child=serializers.DictField(child=serializers.CharField()), help_text="Words per language."
    )

    class Meta:
        model = Survey
        fields = ["id", "key", "kind", "name", "state", "lowest", "highest", "valid_days", "texts", "created_at"]


class ResponseOut(serializers.ModelSerializer):
    survey = serializers.CharField(source="survey.key", help_text="Key of the survey.")
    mood = serializers.ChoiceField(
        choices=["promoter", "passive", "detractor", ""], help_text="For NPS; empty for other kinds."
    )
    case = serializers.SerializerMethodField(help_text="The case it opened, if it did.")

    class Meta:
        model = Response
        fields = [
            "id",
            "customer",
            "survey",
            "kind",
            "score",
            "mood",
            "comment",
            "language",
            "first_answered_at",
            "answered_at",
            "answer_count",
            "source",
            "source_id",
            "is_history",
            "case",
        ]

    def get_case(self, response: Response) -> int | None:
        return response.case.pk if hasattr(response, "case") else None


class ResponseIn(serializers.Serializer):
    """An answer that was given elsewhere."""

    customer = serializers.IntegerField(min_value=1, max_value=BIGGEST_ID, help_text="Id of the customer.")
    survey = serializers.SlugField(default="nps", help_text="Key of the survey.")
    score = serializers.IntegerField(
        min_value=-1000, max_value=1000, help_text="On the survey's scale: 0 to 10 for NPS."
    )
    comment = serializers.CharField(default="", allow_blank=True, max_length=surveys.COMMENT_MAX)
    language = serializers.CharField(default="", allow_blank=True, max_length=5)
    answered_at = serializers.DateTimeField()
    source = serializers.CharField(  # type: ignore[assignment]
        max_length=40, help_text="Name of the system it was given in."
    )
    source_id = serializers.CharField(max_length=120, help_text="Its id there; the same id is written once.")


class CaseOut(serializers.ModelSerializer):
    is_late = serializers.BooleanField(help_text="Nobody answered it in time.")

    class Meta:
        model = Case
        fields = [
            "id",
            "customer",
            "response",
            "kind",
            "state",
            "is_late",
            "assignee",
            "outcome",
            "created_at",
            "due_at",
            "answered_at",
            "closed_at",
        ]


class CaseCloseIn(serializers.Serializer):
    outcome = serializers.ChoiceField(choices=Case.Outcome.choices)
    text = serializers.CharField(default="", allow_blank=True, max_length=cases.TEXT_MAX)


class ResponseFilter(OfCustomer):
    survey = django_filters.CharFilter(field_name="survey__key", label="Key of the survey.")
    kind = django_filters.ChoiceFilter(choices=Kind.choices, label="Kind of the survey.")
    score_min = django_filters.NumberFilter(field_name="score", lookup_expr="gte", label="Lowest score.")
    score_max = django_filters.NumberFilter(field_name="score", lookup_expr="lte", label="Highest score.")
    answered_from = django_filters.IsoDateTimeFilter(
        field_name="answered_at", lookup_expr="gte", label="Answered at or after this moment."
    )
    answered_before = django_filters.IsoDateTimeFilter(
        field_name="answered_at", lookup_expr="lt", label="Answered before this moment."
    )

    class Meta:
        model = Response
        fields: list[str] = []


class CaseFilter(OfCustomer):
    state = django_filters.ChoiceFilter(choices=Case.State.choices, label="State.")
    assignee = django_filters.NumberFilter(min_value=1, max_value=BIGGEST_ID, label="Id of the user it is assigned to.")
    due_before = django_filters.IsoDateTimeFilter(
        field_name="due_at", lookup_expr="lt", label="Due before this moment."
    )

    class Meta:
        model = Case
        fields: list[str] = []


@described("Surveys", "One survey", tag="feedback")
class SurveyViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """What the shop asks."""

    scope = "feedback"
    queryset = Survey.objects.all()
    serializer_class = SurveyOut


@described("Answers of customers", "One answer", tag="feedback")
class ResponseViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """What customers answered; each row is the last word of its answer."""

    scope = "feedback"
    queryset = Response.objects.select_related("survey", "case")
    serializer_class = ResponseOut
    filterset_class = ResponseFilter

    @extend_schema(
        summary="Record an answer given elsewhere",
        tags=["feedback"],
        request=ResponseIn,
        responses={
            201: ResponseOut,
            200: OpenApiResponse(ResponseOut, description="It was recorded before; nothing changed."),
        },
    )
    def create(self, request: Request) -> Reply:
        body = ResponseIn(data=request.data)
        body.is_valid(raise_exception=True)
        given: dict[str, Any] = dict(body.validated_data)
        customer = Customer.objects.filter(pk=given.pop("customer")).first()
        if customer is None:
            raise NotFound("There is no customer with this id.", code="unknown_customer")
        survey = surveys.get(given.pop("survey"))
        known = Response.objects.filter(source=given["source"], source_id=given["source_id"]).exists()
        response = surveys.record(customer=customer, survey=survey, **given)
        return Reply(ResponseOut(response).data, status=status.HTTP_200_OK if known else status.HTTP_201_CREATED)


@described("Cases", "One case", tag="feedback")
class CaseViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Who is unhappy and waits, and what came of it."""

    scope = "feedback"
    queryset = Case.objects.all()
    serializer_class = CaseOut
    filterset_class = CaseFilter

    @extend_schema(summary="Close a case", tags=["feedback"], request=CaseCloseIn, responses={200: CaseOut})
    @action(detail=True, methods=["post"])
    def close(self, request: Request, pk: str | None = None) -> Reply:
        body = CaseCloseIn(data=request.data)
        body.is_valid(raise_exception=True)
        found = self.get_object()
        actor = person(request)
        cases.close(case=found, actor=actor, **body.validated_data)
        return Reply(CaseOut(queries.case(found.pk)).data)


ROUTES = [
    ("surveys", SurveyViewSet, "survey"),
    ("responses", ResponseViewSet, "response"),
    ("cases", CaseViewSet, "case"),
]
