from django.apps import AppConfig


class CampaignsConfig(AppConfig):
    name = "campaigns"
    verbose_name = "Campaigns"

    def ready(self) -> None:
        from campaigns import queries
        from lifecycle_crm.lib import health

        health.register("outbox", queries.oldest_due_seconds, limit_seconds=300)
