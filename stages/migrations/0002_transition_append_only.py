from django.db import migrations

from lifecycle_crm.lib.appendonly import AppendOnly


class Migration(migrations.Migration):
    dependencies = [("stages", "0001_initial")]

    operations = [
        AppendOnly(
            "stages_stagetransition",
            (
                "id", "customer_id", "from_stage", "to_stage", "kind", "occurred_at", "business_date", "rule_set_id",
                "rule", "night_id", "user_id", "reason", "is_quiet",
            ),
        )
    ]
