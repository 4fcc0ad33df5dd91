from django.urls import URLPattern, include, path

from loyalty import views

app_name = "loyalty"
staff = [
    path("", views.overview, name="overview"),
    path("accounts/<int:customer_id>/", views.account, name="account"),
    path("accounts/<int:customer_id>/redeem/", views.redeem, name="points-redeem"),
    path("accounts/<int:customer_id>/adjust/", views.adjust, name="points-adjust"),
    path("accounts/<int:customer_id>/entries/<int:entry_id>/undo/", views.undo, name="points-undo"),
]
public: list[URLPattern] = []
"""For customers: no sign-in, the address itself is the proof."""
urlpatterns = [path("loyalty/", include(staff)), path("p/", include(public))]
