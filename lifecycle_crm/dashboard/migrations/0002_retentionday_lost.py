from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("dashboard", "0001_rollups")]

    operations = [
        # Rows of people who were never counted are not zero: the next night, or the page, counts them anew.
        migrations.RunSQL("DELETE FROM dashboard_retentionday", migrations.RunSQL.noop),
        migrations.AddField(
            model_name="retentionday",
            name="lost",
            field=models.PositiveIntegerField(default=0, verbose_name="went dormant"),
            preserve_default=False,
        ),
    ]
