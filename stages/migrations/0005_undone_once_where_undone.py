from django.db import migrations, models

from lifecycle_crm.lib.appendonly import StaysAppendOnly


class Migration(migrations.Migration):
    """The index of what undoes what holds only the moves that undo something."""

    dependencies = [("stages", "0004_rules_and_undo")]

    operations = [
        # First and last: going back, SQLite rebuilds the table too.
        StaysAppendOnly("stages_stagetransition"),
        migrations.RemoveConstraint(model_name="stagetransition", name="stages_transition_undone_once"),
        migrations.AddConstraint(
            model_name="stagetransition",
            constraint=models.UniqueConstraint(
                condition=models.Q(("undoes__isnull", False)),
                fields=("undoes",),
                name="stages_transition_undone_once",
            ),
        ),
        StaysAppendOnly("stages_stagetransition"),
    ]
