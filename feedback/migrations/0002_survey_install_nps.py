from django.db import migrations

from feedback.surveys import NPS


def install(apps, schema_editor):
    values = {name: value for name, value in NPS.items() if name != "key"}
    apps.get_model("feedback", "Survey").objects.get_or_create(key=NPS["key"], defaults=values)


class Migration(migrations.Migration):
    dependencies = [("feedback", "0001_initial")]

    operations = [migrations.RunPython(install, migrations.RunPython.noop)]
