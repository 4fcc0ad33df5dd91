from django.db import migrations

from lifecycle_crm.lib.appendonly import AppendOnly


class Migration(migrations.Migration):
    """The rate is a rule now. A change of tier is a fact: only what reacted to it may be noted on it."""

    dependencies = [("loyalty", "0008_rules_install")]

    operations = [
        migrations.RemoveField(model_name="programme", name="points_per_unit"),
        AppendOnly(
            "loyalty_tierchange",
            fixed=("programme_id", "customer_id", "kind", "from_tier", "to_tier", "counted", "effective_at"),
        ),
    ]
