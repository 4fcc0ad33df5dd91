"""The six stages exist from the start. Goal and playbook stay empty: then the shipped texts show, in the reader's language."""

from django.db import migrations

KEYS = ("reach", "acquire", "nurture", "retain", "advocate", "dormant")


def install(apps, schema_editor):
    stage = apps.get_model("stages", "Stage")
    for position, key in enumerate(KEYS, start=1):
        stage.objects.get_or_create(key=key, defaults={"position": position})


class Migration(migrations.Migration):
    dependencies = [("stages", "0002_transition_append_only")]

    operations = [migrations.RunPython(install, migrations.RunPython.noop)]
