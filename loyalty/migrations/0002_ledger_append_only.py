from django.db import migrations

from lifecycle_crm.lib.appendonly import AppendOnly


class Migration(migrations.Migration):
    dependencies = [("loyalty", "0001_initial")]

    operations = [
        AppendOnly("loyalty_entry"),
        AppendOnly("loyalty_posting"),
        AppendOnly("loyalty_lotspend"),
    ]
