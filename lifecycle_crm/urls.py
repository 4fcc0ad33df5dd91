from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("lifecycle_crm.accounts.urls")),
    path("", include("customers.urls")),
    path("", include("lifecycle_crm.dashboard.urls")),
    path("admin/", admin.site.urls),
]
