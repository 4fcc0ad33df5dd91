from django.urls import path

from loyalty import views

app_name = "loyalty"
urlpatterns = [
    path("", views.overview, name="overview"),
    path("accounts/<int:customer_id>/", views.account, name="account"),
    path("accounts/<int:customer_id>/redeem/", views.redeem, name="points-redeem"),
    path("accounts/<int:customer_id>/adjust/", views.adjust, name="points-adjust"),
    path("accounts/<int:customer_id>/entries/<int:entry_id>/undo/", views.undo, name="points-undo"),
]
