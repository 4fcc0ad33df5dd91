from django.apps import AppConfig


class LoyaltyConfig(AppConfig):
    name = "loyalty"
    verbose_name = "Loyalty"

    def ready(self) -> None:
        from customers import usage
        from lifecycle_crm.lib import health
        from loyalty import queries

        usage.register(queries.segments_in_use)

        # A frozen account is late from the first second: somebody has to look.
        health.register("points_frozen", queries.oldest_freeze_seconds, limit_seconds=0)
