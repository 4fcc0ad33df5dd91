"""REST: the picture of a reward, at ``/rewards/{id}/picture/``."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.parsers import JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from lifecycle_crm.lib import images
from loyalty import callers, pictures
from loyalty.models import RewardPicture

AROUND = 64 * 1024
"""Bytes that a multipart body has beside the file."""


class PictureOut(serializers.ModelSerializer):
    url = serializers.SerializerMethodField(
        help_text="Public, without a sign-in. WebP, at most 960 pixels on the longer side. Another picture has another address."
    )
    small_url = serializers.SerializerMethodField(help_text="The same, at most 240 pixels on the longer side.")
    alt = serializers.CharField(help_text="What it shows, for those who do not see it.")

    class Meta:
        model = RewardPicture
        fields = ["url", "small_url", "alt", "width", "height", "sha256", "changed_at"]
        read_only_fields = fields

    def get_url(self, picture: RewardPicture) -> str:
        return settings.SITE_URL + picture.path

    def get_small_url(self, picture: RewardPicture) -> str:
        return settings.SITE_URL + picture.small_path


class PictureIn(serializers.Serializer):
    file = serializers.FileField(allow_empty_file=True, help_text="JPEG, PNG or WebP, at most 8 MB.")
    alt = serializers.CharField(allow_blank=True, help_text="What it shows, in at most 200 characters.")


class PictureWords(serializers.Serializer):
    alt = serializers.CharField(allow_blank=True, help_text="What it shows, in at most 200 characters.")
    sha256 = serializers.CharField(max_length=64, help_text="The picture that the words are about.")


class HasPicture:
    """Mixin of a view set of rewards."""

    @extend_schema(
        summary="Show a picture with a reward",
        description=(
            "In place of the one it has. What you send is not kept: it is turned upright, made smaller and drawn anew as "
            "WebP without anything that the camera noted. Of several that arrive at once, the last one stays."
        ),
        tags=["rewards"],
        request={"multipart/form-data": PictureIn},
        responses={
            200: PictureOut,
            413: OpenApiResponse(description="Larger than 8 MB."),
            422: OpenApiResponse(
                description="No words; or no JPEG, PNG or WebP; or damaged, too small, too many pixels, or moving."
            ),
        },
    )
    @action(detail=True, methods=["put"], parser_classes=[MultiPartParser, JSONParser])
    def picture(self, request: Request, pk: str | None = None) -> Response:
        callers.check_may_set_up(request)
        reward = self.get_object()  # type: ignore[attr-defined]
        if int(request.META.get("CONTENT_LENGTH") or 0) > images.MOST_BYTES + AROUND:
            raise images.too_large()
        body = PictureIn(data=request.data)
        body.is_valid(raise_exception=True)
        given: dict[str, Any] = body.validated_data
        made = pictures.put(reward=reward, file=given["file"], alt=given["alt"], actor=callers.person(request))
        return Response(PictureOut(made).data)

    @extend_schema(
        summary="Say anew what the picture of a reward shows",
        description="The picture stays. Send its `sha256`, so that the words never end up beside another.",
        tags=["rewards"],
        request={"application/json": PictureWords},
        responses={200: PictureOut, 409: OpenApiResponse(description="The reward shows another picture by now.")},
    )
    @picture.mapping.patch
    def describe_picture(self, request: Request, pk: str | None = None) -> Response:
        callers.check_may_set_up(request)
        body = PictureWords(data=request.data)
        body.is_valid(raise_exception=True)
        given: dict[str, Any] = body.validated_data
        reward = self.get_object()  # type: ignore[attr-defined]
        made = pictures.describe(
            reward=reward, alt=given["alt"], seen=given["sha256"], actor=callers.person(request)
        )  # fmt: skip
        return Response(PictureOut(made).data)

    @extend_schema(
        summary="Show no picture with a reward",
        description="Its address answers 404 from then on. A reward without one stays as it is.",
        tags=["rewards"],
        responses={204: None},
    )
    @picture.mapping.delete
    def remove_picture(self, request: Request, pk: str | None = None) -> Response:
        callers.check_may_set_up(request)
        pictures.remove(reward=self.get_object())  # type: ignore[attr-defined]
        return Response(status=status.HTTP_204_NO_CONTENT)
