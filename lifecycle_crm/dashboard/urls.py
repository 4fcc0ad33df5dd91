from django.urls import path

from lifecycle_crm.dashboard import customer, customer_actions, flow, home, retention, rfm

app_name = "dashboard"
urlpatterns = [
    path("", home.home, name="home"),
    path("home/<slug:panel>.csv", home.home_csv, name="home-csv"),
    path("insights/flow/", flow.flow, name="flow"),
    path("insights/flow/<slug:panel>.csv", flow.flow_csv, name="flow-csv"),
    path("insights/retention/", retention.retention, name="retention"),
    path("insights/retention.csv", retention.retention_csv, name="retention-csv"),
    path("insights/rfm/", rfm.rfm, name="rfm"),
    path("insights/rfm/segment/", rfm.rfm_segment, name="rfm-segment"),
    path("insights/rfm/<slug:table>.csv", rfm.rfm_csv, name="rfm-csv"),
    path("customers/<int:pk>/", customer.timeline, name="customer"),
    path("customers/<int:pk>/stages/", customer.stages, name="customer-stages"),
    path("customers/<int:pk>/orders/", customer.orders, name="customer-orders"),
    path("customers/<int:pk>/feedback/", customer.feedback, name="customer-feedback"),
    path("customers/<int:pk>/messages/", customer.messages_sent, name="customer-messages"),
    path("customers/<int:pk>/points/", customer.points, name="customer-points"),
    path("customers/<int:pk>/consents/", customer.consents, name="customer-consents"),
    path("customers/<int:pk>/data/", customer.data, name="customer-data"),
    path("customers/<int:pk>/move/", customer_actions.move, name="customer-move"),
    path("customers/<int:pk>/consents/record/", customer_actions.record_consent, name="customer-consent-record"),
    path("customers/<int:pk>/feedback/link/", customer_actions.survey_link, name="customer-survey-link"),
    path("customers/<int:pk>/points/give/", customer_actions.give_points, name="customer-points-give"),
    path("customers/<int:pk>/data/edit/", customer_actions.edit, name="customer-edit"),
]
