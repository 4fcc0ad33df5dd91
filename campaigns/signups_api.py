"""REST: sign-up forms and who signed up. Scope noun ``signups``."""

from __future__ import annotations

from typing import Any

import django_filters
from django.conf import settings
from django.urls import reverse
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from campaigns.models import SignUp, SignUpForm
from campaigns.signups import asking, editing, reading
from campaigns.signups.editing import PARTS
from lifecycle_crm.accounts.callers import need, sees_contacts
from lifecycle_crm.accounts.models import User


class SignUpWords(serializers.Serializer):
    """What a form says in one language; plain text."""

    title = serializers.CharField(max_length=PARTS["title"])
    text = serializers.CharField(max_length=PARTS["text"])
    consent = serializers.CharField(max_length=PARTS["consent"], help_text="Stands beside the button.")
    thanks = serializers.CharField(max_length=PARTS["thanks"], help_text="Once they confirmed.")


class SignUpFormOut(serializers.ModelSerializer):
    address = serializers.SerializerMethodField(help_text="The public page.")
    words = serializers.DictField(child=SignUpWords(), help_text="By language.")

    class Meta:
        model = SignUpForm
        fields = ["key", "name", "address", "asks_name", "tag", "words", "archived_at", "created_at"]

    def get_address(self, form: SignUpForm) -> str:
        return settings.SITE_URL + reverse("campaigns:sign-up", args=[form.key])


class SignUpFormIn(serializers.Serializer):
    name = serializers.CharField(max_length=120)
    key = serializers.SlugField(max_length=60, required=False, default="", allow_blank=True)
    asks_name = serializers.BooleanField(default=False)
    tag = serializers.CharField(max_length=100, required=False, default="", allow_blank=True)


class SignUpFormChange(serializers.Serializer):
    """What is left out stays."""

    name = serializers.CharField(max_length=120, required=False)
    asks_name = serializers.BooleanField(required=False)
    tag = serializers.CharField(max_length=100, required=False, allow_blank=True)


class SignUpWordsIn(SignUpWords):
    language = serializers.ChoiceField(choices=settings.LANGUAGES)


class SignUpOut(serializers.ModelSerializer):
    """``state`` is ``confirmed`` once the owner of the mailbox said yes; only then is there a ``customer``."""

    form: Any = serializers.SlugRelatedField(slug_field="key", read_only=True)
    source: Any = serializers.CharField(read_only=True, help_text="`page` or `api`.")

    class Meta:
        model = SignUp
        fields = [
            "id", "form", "email", "given_name", "language", "consent_text", "wording", "source", "state", "created_at",
            "asked_at", "confirmed_at", "customer",
        ]  # fmt: skip

    def to_representation(self, instance: SignUp) -> dict[str, Any]:
        data: dict[str, Any] = super().to_representation(instance)
        return data if sees_contacts(self.context["request"]) else data | {"email": "", "given_name": ""}


class SignUpIn(serializers.Serializer):
    form: Any = serializers.SlugRelatedField(slug_field="key", queryset=SignUpForm.objects.all(), help_text="Its key.")
    email = serializers.CharField(max_length=254)
    given_name = serializers.CharField(max_length=100, required=False, default="", allow_blank=True)
    language = serializers.ChoiceField(choices=settings.LANGUAGES, default=settings.LANGUAGE_CODE)
    ip = serializers.IPAddressField(
        required=False, default=None, allow_null=True, help_text="Of the visitor, as part of the proof."
    )


class SignUpFilter(django_filters.FilterSet):
    form = django_filters.CharFilter(field_name="form__key", label="Key of the form.")
    customer = django_filters.NumberFilter(label="Id of the customer.")

    class Meta:
        model = SignUp
        fields = ["state"]


@extend_schema_view(list=extend_schema(summary="Sign-up forms"))
@extend_schema(tags=["campaigns"])
class SignUpFormViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Where strangers ask for our news."""

    scope = "signups"
    queryset = SignUpForm.objects.order_by("name", "pk")
    serializer_class = SignUpFormOut
    lookup_field = "key"
    lookup_value_regex = "[-a-zA-Z0-9_]+"

    @extend_schema(request=SignUpFormIn, responses={201: SignUpFormOut})
    def create(self, request: Request) -> Response:
        """Make one. It has words in all languages and works at once."""
        user = need(request, User.may_steer)
        body = SignUpFormIn(data=request.data)
        body.is_valid(raise_exception=True)
        made = editing.create(**body.validated_data, actor=user)
        return Response(SignUpFormOut(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=SignUpFormChange, responses={200: SignUpFormOut})
    def partial_update(self, request: Request, key: str = "") -> Response:
        need(request, User.may_steer)
        form = self.get_object()
        body = SignUpFormChange(data=request.data)
        body.is_valid(raise_exception=True)
        values = {"name": form.name, "tag": form.tag, "asks_name": form.asks_name} | body.validated_data
        return Response(SignUpFormOut(editing.change(form=form, **values)).data)

    @extend_schema(request=SignUpWordsIn, responses={200: SignUpFormOut})
    @action(detail=True, methods=["post"])
    def words(self, request: Request, key: str = "") -> Response:
        """What it says in one language. Who signed up before keeps the words they read."""
        need(request, User.may_steer)
        body = SignUpWordsIn(data=request.data)
        body.is_valid(raise_exception=True)
        said = dict(body.validated_data)
        done = editing.write(form=self.get_object(), language=said.pop("language"), words=said)
        return Response(SignUpFormOut(done).data)

    @extend_schema(request=None, responses={200: SignUpFormOut})
    @action(detail=True, methods=["post"])
    def archive(self, request: Request, key: str = "") -> Response:
        """Nobody can sign up here any more. What was asked before can still be confirmed."""
        need(request, User.may_steer)
        return Response(SignUpFormOut(editing.archive(form=self.get_object())).data)

    @extend_schema(request=None, responses={200: SignUpFormOut})
    @action(detail=True, methods=["post"], url_path="bring-back")
    def bring_back(self, request: Request, key: str = "") -> Response:
        need(request, User.may_steer)
        return Response(SignUpFormOut(editing.bring_back(form=self.get_object())).data)


@extend_schema_view(list=extend_schema(summary="Sign-ups"))
@extend_schema(tags=["campaigns"])
class SignUpViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Who asked for our news, the newest first. Unconfirmed ones are deleted after a month."""

    scope = "signups"
    queryset = reading.sign_ups()
    serializer_class = SignUpOut
    filterset_class = SignUpFilter

    @extend_schema(request=SignUpIn, responses={202: SignUpOut})
    def create(self, request: Request) -> Response:
        """Somebody signed up on a page of yours. They are mailed a link; until they press it, nothing else happens.

        The same address again is the same sign-up, and another mail only after a while.
        """
        need(request, User.may_steer)
        body = SignUpIn(data=request.data)
        body.is_valid(raise_exception=True)
        row = asking.ask(**body.validated_data, source=SignUp.Source.API)
        return Response(self.get_serializer(row).data, status=status.HTTP_202_ACCEPTED)


ROUTES = [("sign-up-forms", SignUpFormViewSet, "sign-up-form"), ("sign-ups", SignUpViewSet, "sign-up")]
