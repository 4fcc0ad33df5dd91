"""Full paths: include it at the root."""

from django.urls import path

from stages import views

app_name = "stages"
urlpatterns = [
    path("stages/", views.overview, name="overview"),
    path("stages/rules/install/", views.install, name="rules-install"),
    path("stages/rules/draft/", views.make_draft, name="rules-draft"),
    path("stages/rules/<int:version>/", views.rules, name="rules"),
    path("stages/rules/<int:version>/publish/", views.publish, name="rules-publish"),
    path("stages/rules/<int:version>/discard/", views.discard, name="rules-discard"),
    path("stages/rules/<int:version>/restore/", views.restore, name="rules-restore"),
    path("stages/nights/", views.nights, name="night-list"),
    path("stages/nights/<slug:day>/", views.night, name="night"),
]
