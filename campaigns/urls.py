"""Full paths, since the way out for customers lives under /p/: include it at the root."""

from django.urls import path, re_path

from campaigns import (
    journey_pages,
    journey_people_pages,
    public,
    template_pages,
    template_preview_pages,
    views,
    webhooks,
)

app_name = "campaigns"
urlpatterns = [
    path("p/u/<str:token>/", public.unsubscribe, name="unsubscribe"),
    path("p/c/<str:token>/", public.click, name="click"),
    path("p/o/<str:token>/", public.opened, name="opened"),
    path("p/webhooks/<slug:provider>/", webhooks.receive, name="webhook"),
    path("templates/", template_pages.template_list, name="templates"),
    path("templates/new/", template_pages.template_new, name="template-new"),
    path("templates/<slug:key>/act/", template_pages.template_act, name="template-act"),
    path("templates/<slug:key>/<str:language>/", template_pages.template, name="template"),
    path(
        "templates/<slug:key>/<str:language>/versions/",
        template_preview_pages.template_versions,
        name="template-versions",
    ),
    path(
        "templates/<slug:key>/<str:language>/preview/", template_preview_pages.template_preview, name="template-preview"
    ),
    path("templates/<slug:key>/<str:language>/test/", template_preview_pages.template_try, name="template-test"),
    path("campaigns/", views.campaign_list, name="list"),
    path("campaigns/new/", views.new, name="new"),
    path("campaigns/lift/", views.lift, name="lift"),
    path("campaigns/outbox/", views.outbox_page, name="outbox"),
    path("campaigns/messages/<int:pk>/", views.message, name="message"),
    path("campaigns/messages/<int:pk>/html/", views.message_html, name="message-html"),
    path("campaigns/<int:pk>/", views.detail, name="detail"),
    path("campaigns/<int:pk>/gate/", views.gate_page, name="gate"),
    path("campaigns/<int:pk>/preview/", views.preview, name="preview"),
    path("campaigns/<int:pk>/send/", views.send, name="send"),
    re_path(r"^campaigns/(?P<pk>\d{1,18})/(?P<verb>pause|resume)/$", views.switch, name="switch"),
    path("journeys/", journey_pages.journey_list, name="journeys"),
    path("journeys/new/", journey_pages.new, name="journey-new"),
    path("journeys/playbooks/<slug:playbook>/", journey_pages.install, name="playbook-install"),
    path("journeys/<int:pk>/", journey_pages.build, name="journey"),
    path("journeys/<int:pk>/edit/", journey_pages.edit, name="journey-edit"),
    path("journeys/<int:pk>/trigger/", journey_pages.trigger, name="journey-trigger"),
    path("journeys/<int:pk>/steps/<slug:step>/", journey_pages.step, name="journey-step"),
    path("journeys/<int:pk>/map/", journey_people_pages.drawing, name="journey-map"),
    path("journeys/<int:pk>/people/", journey_people_pages.people, name="journey-people"),
    path("journeys/<int:pk>/people/<int:run>/", journey_people_pages.way, name="journey-way"),
    path("journeys/<int:pk>/people/<int:run>/move/", journey_people_pages.move, name="journey-move"),
    path("journeys/<int:pk>/people/<int:run>/remove/", journey_people_pages.remove, name="journey-remove"),
    path("journeys/<int:pk>/results/", journey_people_pages.outcome, name="journey-results"),
    path("journeys/<int:pk>/versions/", journey_pages.versions, name="journey-versions"),
    path("journeys/<int:pk>/versions/<int:number>/take-up/", journey_pages.take_up, name="journey-take-up"),
    path("journeys/<int:pk>/publish/", journey_pages.publish, name="journey-publish"),
    path("journeys/<int:pk>/settings/", journey_pages.settings, name="journey-settings"),
    path("journeys/<int:pk>/try/", journey_people_pages.attempt, name="journey-try"),
    re_path(r"^journeys/(?P<pk>\d{1,18})/(?P<verb>pause|resume|end)/$", journey_pages.switch, name="journey-switch"),
    re_path(r"^campaigns/runs/(?P<pk>\d{1,18})/(?P<verb>pause|resume|cancel|confirm)/$", views.act, name="run-act"),
]
