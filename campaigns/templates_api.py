"""REST: templates, the versions of their words, what a customer would get, and what is wrong with a text. Scope noun
``campaigns``; the same verbs as the pages."""

from __future__ import annotations

from typing import Any

import django_filters
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from campaigns import checks, letters, texts
from campaigns.blocks import KINDS
from campaigns.models import Channel, Purpose, Template, TemplateVariant
from customers.models import Customer
from lifecycle_crm.accounts.callers import need, sees_contacts
from lifecycle_crm.accounts.models import ApiKey, User
from lifecycle_crm.lib.api import BIGGEST_ID, described
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.lib.numbers import row_number

_BLOCKS = (
    'A list in order, such as [{"type": "text", "text": "Hello {{ customer.given_name | default: \'friend\' }}", '
    '"when": {"value": "points", "op": "more", "than": 0}}]. Types: ' + ", ".join(KINDS) + ". An SMS is one block "
    "of type text, plain words that are always shown."
)


class TemplateOut(serializers.ModelSerializer):
    languages = serializers.SerializerMethodField(help_text="Languages it has words in.")

    class Meta:
        model = Template
        fields = ["id", "key", "name", "purpose", "channel", "languages", "archived_at"]
        read_only_fields = fields

    def get_languages(self, template: Template) -> list[str]:
        return sorted({variant.language for variant in template.variants.all()})


class TemplateVersionOut(serializers.ModelSerializer):
    blocks = serializers.JSONField(help_text=_BLOCKS)
    created_by = serializers.CharField(source="created_by.email", allow_null=True, default=None)

    class Meta:
        model = TemplateVariant
        fields = ["language", "version", "subject", "blocks", "note", "created_by", "created_at"]
        read_only_fields = fields


class TemplateDetailOut(TemplateOut):
    texts = serializers.SerializerMethodField(help_text="The newest version of each language: what new sends say.")

    class Meta(TemplateOut.Meta):
        fields = [*TemplateOut.Meta.fields, "texts"]
        read_only_fields = fields

    @extend_schema(responses=TemplateVersionOut(many=True))
    def get_texts(self, template: Template) -> list[dict[str, Any]]:
        newest = [texts.newest(template, code) for code in texts.written_in(template)]
        return [dict(TemplateVersionOut(one).data) for one in newest]


class TemplateBody(serializers.Serializer):
    name = serializers.CharField(max_length=120)
    purpose = serializers.ChoiceField(choices=Purpose.choices, default=Purpose.MARKETING)
    channel = serializers.ChoiceField(choices=Channel.choices, default=Channel.EMAIL)
    key = serializers.CharField(default="", allow_blank=True, max_length=60, help_text="Left out: made from the name.")


class TemplateChangeBody(serializers.Serializer):
    name = serializers.CharField(required=False, max_length=120)
    channel = serializers.ChoiceField(
        required=False, choices=Channel.choices, help_text="Refused with 409 once the template has words."
    )
    archived = serializers.BooleanField(
        required=False, help_text="True: nobody can choose it any more; refused with 409 while something is to say it."
    )


class TemplateTextBody(serializers.Serializer):
    language = serializers.ChoiceField(choices=settings.LANGUAGES)
    subject = serializers.CharField(
        max_length=200, default="", allow_blank=True, help_text="Liquid. An e-mail needs one; an SMS has none."
    )
    blocks = serializers.JSONField(help_text=_BLOCKS)
    note = serializers.CharField(default="", allow_blank=True, max_length=200)
    base = serializers.IntegerField(
        required=False, min_value=0, help_text="The version you read (0: none); refused when another was saved since."
    )


class TemplateCheckBody(serializers.Serializer):
    language = serializers.ChoiceField(choices=settings.LANGUAGES)
    subject = serializers.CharField(required=False, allow_blank=True, max_length=200, help_text="Left out: the newest.")
    blocks = serializers.ListField(child=serializers.JSONField(), required=False, max_length=100, help_text=_BLOCKS)
    customer = serializers.IntegerField(
        required=False, min_value=1, max_value=BIGGEST_ID, help_text="Whom it is tried on; needs the right to see them."
    )


class TemplateFindingOut(serializers.Serializer):
    level = serializers.CharField(help_text="bad (cannot be saved or sent so), warn or info.")
    code = serializers.CharField()
    text = serializers.CharField(help_text="In the language of the request.")
    block = serializers.IntegerField(
        allow_null=True, help_text="From 0; -1 is the subject, -2 the text of an SMS; null is the whole."
    )
    field = serializers.CharField(allow_blank=True)
    line = serializers.IntegerField(allow_null=True, help_text="From 1.")
    column = serializers.IntegerField(allow_null=True, help_text="From 1.")


class TemplateFindingsOut(serializers.Serializer):
    findings = TemplateFindingOut(many=True)


class TemplateRenderedOut(serializers.Serializer):
    language = serializers.CharField()
    version = serializers.IntegerField()
    subject = serializers.CharField(help_text="Empty for an SMS.")
    html = serializers.CharField(help_text="Empty for an SMS.")
    text = serializers.CharField()
    parts = serializers.IntegerField(allow_null=True, help_text="Of an SMS: how many short messages it takes.")
    encoding = serializers.CharField(allow_null=True, help_text="Of an SMS: GSM-7 or UCS-2.")


class TemplateFilter(django_filters.FilterSet):
    archived = django_filters.BooleanFilter(
        field_name="archived_at", lookup_expr="isnull", exclude=True, label="Only archived ones, or only the others."
    )

    class Meta:
        model = Template
        fields = ["key", "purpose", "channel"]


_LANGUAGE = OpenApiParameter("language", str, enum=list(texts.LANGUAGES), description="One of ours.")


def _may_see_customers(request: Request) -> None:
    """What is made for a customer names them: a key needs ``customers:read`` besides."""
    is_narrow = isinstance(request.auth, ApiKey) and not request.auth.allows("customers:read")
    if is_narrow or not sees_contacts(request):
        raise PermissionDenied


def _id(request: Request, name: str) -> int:
    wanted = row_number(request.query_params.get(name))
    if wanted is None:
        raise InvalidInput(f"Give {name} as a number: ?{name}=12.", code=f"no_{name}")
    return wanted


@described("Templates", tag="campaigns")
@extend_schema(tags=["campaigns"])
class TemplateViewSet(mixins.ListModelMixin, GenericViewSet):
    """Words under a stable key, in as many languages as there are. Nothing is ever deleted."""

    scope = "campaigns"
    queryset: QuerySet[Template] = Template.objects.prefetch_related("variants").order_by("id")
    serializer_class = TemplateOut
    filterset_class = TemplateFilter

    @extend_schema(summary="One template with its newest words", responses={200: TemplateDetailOut})
    def retrieve(self, request: Request, pk: Any = None) -> Response:
        return Response(TemplateDetailOut(self.get_object()).data)

    @extend_schema(summary="Make a template without words", request=TemplateBody, responses={201: TemplateOut})
    def create(self, request: Request) -> Response:
        need(request, User.may_steer)
        body = TemplateBody(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(TemplateOut(texts.create(**body.validated_data)).data, status=status.HTTP_201_CREATED)

    @extend_schema(summary="Rename or archive a template", request=TemplateChangeBody, responses={200: TemplateOut})
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        need(request, User.may_steer)
        body = TemplateChangeBody(data=request.data)
        body.is_valid(raise_exception=True)
        template, given = self.get_object(), body.validated_data
        with transaction.atomic():
            if "archived" in given:
                template = (texts.archive if given["archived"] else texts.bring_back)(template=template)
            if "channel" in given:
                template = texts.change_channel(template=template, channel=given["channel"])
            if "name" in given:
                template = texts.rename(template=template, name=given["name"])
        return Response(TemplateOut(template).data)

    @extend_schema(
        summary="Every version of the words, newest first",
        parameters=[_LANGUAGE],
        responses={200: TemplateVersionOut(many=True)},
        filters=False,
    )
    @action(detail=True, methods=["get"])
    def versions(self, request: Request, pk: Any = None) -> Response:
        rows = TemplateVariant.objects.filter(template=self.get_object()).select_related("created_by")
        if code := request.query_params.get("language"):
            rows = rows.filter(language=texts.language(code))
        return self.get_paginated_response(TemplateVersionOut(self.paginate_queryset(rows), many=True).data)

    @extend_schema(
        summary="Save the next version of the words",
        description="What is planned from now on says it; what was planned before keeps its words. 422 with block, line "
        "and column in details for a text that cannot be sent; 409 when base is not the newest version.",
        request=TemplateTextBody,
        responses={201: TemplateVersionOut},
    )
    @versions.mapping.post
    def save_version(self, request: Request, pk: Any = None) -> Response:
        actor = need(request, User.may_steer)
        body = TemplateTextBody(data=request.data)
        body.is_valid(raise_exception=True)
        made = texts.write(template=self.get_object(), **body.validated_data, actor=actor)
        return Response(TemplateVersionOut(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="The message as a customer would get it",
        description="Made by the code that sends. The way to unsubscribe in it leads nowhere. A key needs customers:read "
        "besides.",
        parameters=[
            OpenApiParameter("customer", int, required=True, description="Id of the customer."),
            OpenApiParameter("language", str, enum=list(texts.LANGUAGES), description="Left out: what they would get."),
            OpenApiParameter("version", int, description="Left out: the newest. Needs language."),
        ],
        responses={200: TemplateRenderedOut},
    )
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def render(self, request: Request, pk: Any = None) -> Response:
        _may_see_customers(request)
        template = self.get_object()
        customer = get_object_or_404(Customer, pk=_id(request, "customer"))
        code = texts.language(request.query_params.get("language") or texts.falls_back_to(template, customer.speaks()))
        found = texts.newest(template, code)
        if request.query_params.get("version"):
            found = texts.numbered(template, code, _id(request, "version"))
        if found is None:
            raise texts.UnknownTemplate("There are no words in this language yet.")
        made = letters.shown(variant=found, customer=customer)
        answer = {
            "language": found.language, "version": found.version, "subject": made.subject, "html": made.html,
            "text": made.text, "parts": made.measured.parts if made.measured else None,
            "encoding": made.measured.encoding if made.measured else None,
        }  # fmt: skip
        return Response(TemplateRenderedOut(answer).data)

    @extend_schema(
        summary="What is wrong with a text",
        description="Of the given words, or of the newest. Nothing is written.",
        request=TemplateCheckBody,
        responses={200: TemplateFindingsOut},
    )
    @action(detail=True, methods=["post"], pagination_class=None)
    def check(self, request: Request, pk: Any = None) -> Response:
        body = TemplateCheckBody(data=request.data)
        body.is_valid(raise_exception=True)
        template, given, customer = self.get_object(), body.validated_data, None
        if "customer" in given:
            _may_see_customers(request)
            customer = get_object_or_404(Customer, pk=given["customer"])
        newest = texts.newest(template, given["language"])
        known = checks.readers(template.purpose, template.channel)
        found = checks.find(
            template=template,
            language=given["language"],
            subject=given.get("subject", newest.subject if newest else ""),
            blocks=given.get("blocks", newest.blocks if newest else []),
            customer=customer,
            known=known,
        )
        return Response(TemplateFindingsOut({"findings": [*found, *checks.unwritten(template, known)]}).data)
