"""Full paths: include it at the root."""

from django.urls import path

from stages.views import nights, overview, replays, rules

app_name = "stages"
urlpatterns = [
    path("stages/", overview.overview, name="overview"),
    path("stages/rules/install/", rules.install, name="rules-install"),
    path("stages/rules/presets/", rules.preset_list, name="rules-presets"),
    path("stages/rules/presets/<slug:key>/draft/", rules.draft_preset, name="rules-preset-draft"),
    path("stages/rules/draft/", rules.make_draft, name="rules-draft"),
    path("stages/rules/<int:version>/", rules.rules, name="rules"),
    path("stages/rules/<int:version>/numbers/", rules.numbers, name="rules-numbers"),
    path("stages/rules/<int:version>/movers/", rules.movers, name="rules-movers"),
    path("stages/rules/<int:version>/changes/", rules.changes, name="rules-changes"),
    path("stages/rules/<int:version>/publish/", rules.publish, name="rules-publish"),
    path("stages/rules/<int:version>/approve/", rules.approve, name="rules-approve"),
    path("stages/rules/<int:version>/follow/", rules.follow, name="rules-follow"),
    path("stages/rules/<int:version>/backtest/", replays.start_backtest, name="rules-backtest"),
    path("stages/rules/backtests/<int:pk>/", replays.backtest_page, name="backtest"),
    path("stages/rules/backtests/<int:pk>/stop/", replays.stop_backtest, name="backtest-stop"),
    path("stages/pins/<int:customer_id>/remove/", overview.unpin, name="unpin"),
    path("stages/rules/<int:version>/discard/", rules.discard, name="rules-discard"),
    path("stages/rules/<int:version>/restore/", rules.restore, name="rules-restore"),
    path("stages/nights/", nights.nights, name="night-list"),
    path("stages/nights/<slug:day>/", nights.night, name="night"),
]
