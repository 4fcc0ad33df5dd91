from django.conf import settings
from django.db import migrations

from lifecycle_crm.lib.money import digits


def install(apps, schema_editor):
    programme, rule = (apps.get_model("loyalty", name) for name in ("Programme", "EarningRule"))
    for one in programme.objects.filter(kind="points", points_per_unit__gt=0):
        rule.objects.create(
            programme=one, key="orders", name="Points on orders", kind="amount", points=one.points_per_unit,
            per=10 ** digits(settings.SHOP_CURRENCY), position=10,
        )


class Migration(migrations.Migration):
    """What a programme gave for each unit becomes its first rule, which has held since ever."""

    dependencies = [("loyalty", "0007_earning_rules")]

    operations = [migrations.RunPython(install, migrations.RunPython.noop)]
