from django.apps import AppConfig


class DashboardConfig(AppConfig):
    name = "lifecycle_crm.dashboard"
    label = "dashboard"
    verbose_name = "Dashboard"
