"""The documentation page: Swagger UI from our own static files, with its script apart so that the strict policy holds."""

from __future__ import annotations

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_update
from django.utils.decorators import method_decorator
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny


class Schema(SpectacularAPIView):
    """The OpenAPI document. It holds no data, so everybody may read it."""

    permission_classes = [AllowAny]
    authentication_classes = []


# Swagger UI writes style attributes; scripts stay our own.
@method_decorator(csp_update({"style-src": [SELF, UNSAFE_INLINE]}), name="dispatch")
class Docs(SpectacularSwaggerSplitView):
    permission_classes = [AllowAny]
    url_name = "api-schema"
