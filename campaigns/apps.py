from django.apps import AppConfig


class CampaignsConfig(AppConfig):
    name = "campaigns"
    verbose_name = "Campaigns"

    def ready(self) -> None:
        from campaigns import queries
        from customers import usage
        from lifecycle_crm.lib import health

        usage.register(queries.segments_in_use)

        health.register("outbox", queries.oldest_due_seconds, limit_seconds=300)
