"""Full paths: include it at the root."""

from django.urls import path

from stages import views

app_name = "stages"
urlpatterns = [
    path("stages/", views.overview, name="overview"),
    path("stages/rules/install/", views.install, name="rules-install"),
    path("stages/rules/presets/", views.preset_list, name="rules-presets"),
    path("stages/rules/presets/<slug:key>/draft/", views.draft_preset, name="rules-preset-draft"),
    path("stages/rules/draft/", views.make_draft, name="rules-draft"),
    path("stages/rules/<int:version>/", views.rules, name="rules"),
    path("stages/rules/<int:version>/numbers/", views.numbers, name="rules-numbers"),
    path("stages/rules/<int:version>/changes/", views.changes, name="rules-changes"),
    path("stages/rules/<int:version>/publish/", views.publish, name="rules-publish"),
    path("stages/rules/<int:version>/approve/", views.approve, name="rules-approve"),
    path("stages/rules/<int:version>/follow/", views.follow, name="rules-follow"),
    path("stages/rules/<int:version>/backtest/", views.start_backtest, name="rules-backtest"),
    path("stages/rules/backtests/<int:pk>/", views.backtest_page, name="backtest"),
    path("stages/pins/<int:customer_id>/remove/", views.unpin, name="unpin"),
    path("stages/rules/<int:version>/discard/", views.discard, name="rules-discard"),
    path("stages/rules/<int:version>/restore/", views.restore, name="rules-restore"),
    path("stages/nights/", views.nights, name="night-list"),
    path("stages/nights/<slug:day>/", views.night, name="night"),
]
