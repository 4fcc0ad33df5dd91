from django.db import migrations


def install(apps, schema_editor):
    programme = apps.get_model("loyalty", "Programme")
    if not programme.objects.exists():
        programme.objects.create(
            name="Points", points_per_unit=1, pending_days=14, expiry_months=12, value_minor_per_100=100
        )


class Migration(migrations.Migration):
    """One programme from the first minute: a point for each whole unit, usable after 14 days, kept for a year."""

    dependencies = [("loyalty", "0002_ledger_append_only")]

    operations = [migrations.RunPython(install, migrations.RunPython.noop)]
