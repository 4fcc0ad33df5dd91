from django.urls import path

from customers import segment_builder_pages, segment_pages, views

app_name = "customers"
urlpatterns = [
    path("customers/", views.customer_list, name="list"),
    path("customers/export.csv", views.customer_export, name="export"),
    path("segments/", segment_pages.segment_list, name="segments"),
    path("segments/new/", segment_builder_pages.segment_new, name="segment-new"),
    path("segments/panel/", segment_builder_pages.segment_panel, name="segment-panel"),
    path("segments/<slug:key>/", segment_pages.segment_detail, name="segment"),
    path("segments/<slug:key>/edit/", segment_builder_pages.segment_edit, name="segment-edit"),
    path("segments/<slug:key>/archive/", segment_pages.segment_archive, name="segment-archive"),
    path("segments/<slug:key>/duplicate/", segment_pages.segment_duplicate, name="segment-duplicate"),
    path("segments/<slug:key>/members/", segment_pages.segment_members, name="segment-members"),
    path("imports/", views.import_list, name="import-list"),
    path("imports/new/", views.import_new, name="import-new"),
    path("imports/<int:pk>/", views.import_detail, name="import-detail"),
    path("imports/<int:pk>/run/", views.import_run, name="import-run"),
    path("imports/<int:pk>/refused.csv", views.import_refusals, name="import-refusals"),
]
