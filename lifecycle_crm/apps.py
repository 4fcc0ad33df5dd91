from django.apps import AppConfig


class RoofConfig(AppConfig):
    """The roof: it owns no table, only the commands, the template tags, the languages and the static files."""

    name = "lifecycle_crm"
    label = "roof"
    verbose_name = "Lifecycle CRM"
