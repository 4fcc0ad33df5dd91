"""Every address. Apps that own pages of several roots (``/p/…``, ``/imports/``) name their full paths themselves."""

from __future__ import annotations

from functools import partial

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from django.views.i18n import set_language

from lifecycle_crm import night, undo
from lifecycle_crm.api.docs import Docs, Schema
from lifecycle_crm.dashboard import doors, effects, nights
from lifecycle_crm.dashboard.styleguide import styleguide
from lifecycle_crm.lib.health import health

urlpatterns = [
    path("", include("lifecycle_crm.accounts.urls")),
    path("", include("lifecycle_crm.dashboard.urls")),
    path("", include("customers.urls")),
    path("", include("stages.urls")),
    path("", include("loyalty.urls")),
    path("", include("feedback.urls")),
    path("", include("campaigns.urls")),
    # Opened here, worked on by whoever hears the bell.
    path("stages/nights/now/run/", nights.run_now, {"open_night": partial(night.run, seconds=0)}, name="night-run"),
    path("stages/nights/<slug:day>/preview/", nights.preview, {"look": night.preview}, name="night-preview"),
    path(
        "stages/nights/<slug:day>/undo/",
        nights.take_back,
        {"refusal": undo.refusal, "undo": undo.undo},
        name="night-undo",
    ),
    path("stages/rules/<int:version>/effects/", effects.rule_effects, name="rules-effects"),
    path("api/", RedirectView.as_view(pattern_name="api-docs")),
    path("api/v1/", include("lifecycle_crm.api.urls")),
    path("api/schema/", Schema.as_view(), name="api-schema"),
    path("api/docs/", Docs.as_view(), name="api-docs"),
    path("admin/", admin.site.urls),
    path("health/", health, name="health"),
    path("i18n/", set_language, name="set_language"),
    path("styleguide/", doors.admins_only(styleguide), name="styleguide"),
    path("robots.txt", doors.robots),
    path("favicon.ico", doors.favicon),
]

handler400 = doors.bad_request

admin.site.site_header = settings.SHOP_NAME
admin.site.site_title = settings.SHOP_NAME
admin.site.index_title = "Lifecycle CRM"
