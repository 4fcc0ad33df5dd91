from django.db import migrations

from lifecycle_crm.lib.appendonly import AppendOnly


class Migration(migrations.Migration):
    dependencies = [("stages", "0001_initial")]

    operations = [AppendOnly("stages_stagetransition")]
