"""REST: tasks for the team. Scope noun ``tasks``."""

from __future__ import annotations

from typing import Any

import django_filters
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from campaigns import stafftasks, worklist
from campaigns.models import StaffTask, StaffTaskChange
from lifecycle_crm.accounts.callers import need, sees_contacts
from lifecycle_crm.accounts.models import Role, User
from lifecycle_crm.lib.api import BIGGEST_ID, OfCustomer, described


class TaskOut(serializers.ModelSerializer):
    """For ``assignee`` (id of a user), else for everybody of ``role``, else for whoever works with customers."""

    journey = serializers.IntegerField(source="run.journey_id")
    created_at = serializers.DateTimeField()
    settled_at = serializers.DateTimeField(allow_null=True)

    class Meta:
        model = StaffTask
        fields = [
            "id", "journey", "run", "step", "customer", "kind", "what", "role", "assignee", "due_on", "state", "withdrawn",
            "created_at", "settled_at", "edits",
        ]  # fmt: skip


class TaskChangeOut(serializers.ModelSerializer):
    """``why`` may name the customer: it is for who may see who a customer is."""

    at = serializers.DateTimeField()
    why = serializers.SerializerMethodField()

    def get_why(self, one: StaffTaskChange) -> str:
        return one.why if sees_contacts(self.context["request"]) else ""

    class Meta:
        model = StaffTaskChange
        fields = ["what", "at", "by", "why", "role", "assignee", "due_on"]


class TaskWithChangesOut(TaskOut):
    changes = TaskChangeOut(many=True)

    class Meta(TaskOut.Meta):
        fields = [*TaskOut.Meta.fields, "changes"]


class TaskIn(serializers.Serializer):
    """``edits`` refuses (409) when somebody did something about the task since it was read."""

    why = serializers.CharField(max_length=stafftasks.WHY_MAX, required=False, allow_blank=True)
    edits = serializers.IntegerField(min_value=0, required=False)


class TaskNotDoneIn(TaskIn):
    why = serializers.CharField(max_length=stafftasks.WHY_MAX)


class TaskPassOnIn(TaskIn):
    """A person, a role, or neither: the whole team."""

    assignee = serializers.IntegerField(min_value=1, max_value=BIGGEST_ID, required=False, help_text="Id of a user.")
    role = serializers.ChoiceField(choices=Role.choices, required=False, help_text="One that works with customers.")


class TaskPutOffIn(TaskIn):
    until = serializers.DateField()


class TaskFilter(OfCustomer):
    state = django_filters.ChoiceFilter(choices=StaffTask.State.choices, label="State.")
    kind = django_filters.ChoiceFilter(choices=StaffTask.Kind.choices, label="Kind.")
    role = django_filters.ChoiceFilter(choices=[(role, role) for role in StaffTask.ROLES], label="Role it is for.")
    assignee = django_filters.NumberFilter(min_value=1, max_value=BIGGEST_ID, label="Id of the user it is for.")
    journey = django_filters.NumberFilter(
        field_name="run__journey", min_value=1, max_value=BIGGEST_ID, label="Id of the journey."
    )
    due_before = django_filters.DateFilter(field_name="due_on", lookup_expr="lt", label="Due before this day.")

    class Meta:
        model = StaffTask
        fields: list[str] = []


@described("Tasks of the team", "One task, with what was done about it", tag="tasks")
class TaskViewSet(ReadOnlyModelViewSet):
    """What journeys gave people of the shop to do."""

    scope = "tasks"
    queryset = worklist.tasks()
    filterset_class = TaskFilter

    def get_serializer_class(self) -> type[serializers.BaseSerializer]:
        return TaskWithChangesOut if self.action == "retrieve" else TaskOut

    def _do(self, request: Request, body: serializers.Serializer, verb: Any, **more: Any) -> Response:
        user = need(request, User.may_serve)
        body.is_valid(raise_exception=True)
        values = {**body.validated_data, **more}
        if "assignee" in values:
            values["assignee"] = get_object_or_404(User, pk=values["assignee"])
        return Response(TaskOut(verb(task=self.get_object(), actor=user, **values)).data)

    @extend_schema(summary="It is done", tags=["tasks"], request=TaskIn, responses={200: TaskOut})
    @action(detail=True, methods=["post"])
    def done(self, request: Request, pk: Any = None) -> Response:
        """Whoever waits in the journey for it goes on at once. 409 when it is settled already."""
        return self._do(request, TaskIn(data=request.data), stafftasks.done)

    @extend_schema(summary="It will not be done", tags=["tasks"], request=TaskNotDoneIn, responses={200: TaskOut})
    @action(detail=True, methods=["post"], url_path="not-done")
    def not_done(self, request: Request, pk: Any = None) -> Response:
        """With a reason. Whoever waits in the journey for it goes on at once, on the other branch."""
        return self._do(request, TaskNotDoneIn(data=request.data), stafftasks.not_done)

    @extend_schema(summary="Pass it on", tags=["tasks"], request=TaskPassOnIn, responses={200: TaskOut})
    @action(detail=True, methods=["post"], url_path="pass-on")
    def pass_on(self, request: Request, pk: Any = None) -> Response:
        """To a person, to everybody of a role, or with neither to whoever works with customers."""
        return self._do(request, TaskPassOnIn(data=request.data), stafftasks.pass_on)

    @extend_schema(summary="Put it off", tags=["tasks"], request=TaskPutOffIn, responses={200: TaskOut})
    @action(detail=True, methods=["post"], url_path="put-off")
    def put_off(self, request: Request, pk: Any = None) -> Response:
        """Due on another day, today or within a year."""
        return self._do(request, TaskPutOffIn(data=request.data), stafftasks.put_off)


ROUTES = [("tasks", TaskViewSet, "task")]
