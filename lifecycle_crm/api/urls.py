"""``/api/v1/``: one router made of every app's ``ROUTES``."""

from __future__ import annotations

from typing import Any

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from campaigns import api as campaigns
from feedback import api as feedback
from lifecycle_crm.api import customers, insights
from lifecycle_crm.api.idempotency import Idempotent
from loyalty import api as loyalty
from stages import api as stages


def _once(viewset: type[Any]) -> type[Any]:
    """The viewset with ``Idempotency-Key`` on its POSTs. The apps stand below and need not know of it."""
    return type(viewset.__name__, (Idempotent, viewset), {"__doc__": viewset.__doc__, "__module__": viewset.__module__})


router = SimpleRouter(use_regex_path=True)
for routes in (customers.ROUTES, stages.ROUTES, loyalty.ROUTES, feedback.ROUTES, campaigns.ROUTES, insights.ROUTES):
    for prefix, viewset, basename in routes:
        router.register(prefix, _once(viewset), basename)

app_name = "api"
urlpatterns = [path("", include(router.urls))]
