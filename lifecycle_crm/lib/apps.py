from django.apps import AppConfig


class GroundConfig(AppConfig):
    name = "lifecycle_crm.lib"
    label = "ground"
    verbose_name = "Ground"
