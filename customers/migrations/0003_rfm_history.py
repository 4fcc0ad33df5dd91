import django.db.models.deletion
from django.db import migrations, models

from lifecycle_crm.lib.appendonly import AppendOnly


class Migration(migrations.Migration):

    dependencies = [
        ('customers', '0002_consent_append_only'),
    ]

    operations = [
        migrations.CreateModel(
            name='RfmDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('business_date', models.DateField(verbose_name='business date')),
                ('group', models.CharField(choices=[('champions', 'Champions'), ('loyal', 'Loyal'), ('potential_loyalists', 'Potential loyalists'), ('new', 'New'), ('promising', 'Promising'), ('needs_attention', 'Needs attention'), ('about_to_sleep', 'About to sleep'), ('at_risk', 'At risk'), ('cannot_lose', 'Cannot lose'), ('hibernating', 'Hibernating'), ('lost', 'Lost')], max_length=20, verbose_name='group')),
                ('customers', models.PositiveIntegerField(verbose_name='customers')),
                ('revenue_minor', models.BigIntegerField(verbose_name='spend')),
            ],
            options={
                'verbose_name': 'RFM group on a day',
                'verbose_name_plural': 'RFM groups by day',
                'ordering': ['-business_date', 'group'],
                'constraints': [models.UniqueConstraint(fields=('business_date', 'group'), name='customers_rfm_day_once')],
            },
        ),
        migrations.CreateModel(
            name='RfmChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('from_group', models.CharField(blank=True, choices=[('champions', 'Champions'), ('loyal', 'Loyal'), ('potential_loyalists', 'Potential loyalists'), ('new', 'New'), ('promising', 'Promising'), ('needs_attention', 'Needs attention'), ('about_to_sleep', 'About to sleep'), ('at_risk', 'At risk'), ('cannot_lose', 'Cannot lose'), ('hibernating', 'Hibernating'), ('lost', 'Lost')], max_length=20, verbose_name='from')),
                ('to_group', models.CharField(blank=True, choices=[('champions', 'Champions'), ('loyal', 'Loyal'), ('potential_loyalists', 'Potential loyalists'), ('new', 'New'), ('promising', 'Promising'), ('needs_attention', 'Needs attention'), ('about_to_sleep', 'About to sleep'), ('at_risk', 'At risk'), ('cannot_lose', 'Cannot lose'), ('hibernating', 'Hibernating'), ('lost', 'Lost')], max_length=20, verbose_name='to')),
                ('business_date', models.DateField(verbose_name='business date')),
                ('customer', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='rfm_changes', to='customers.customer')),
            ],
            options={
                'verbose_name': 'move between RFM groups',
                'verbose_name_plural': 'moves between RFM groups',
                'ordering': ['-id'],
                'indexes': [models.Index(fields=['customer', 'id'], name='customers_rfm_change_customer'), models.Index(fields=['business_date', 'from_group', 'to_group'], name='customers_rfm_change_flow')],
                'constraints': [models.CheckConstraint(condition=models.Q(('from_group', models.F('to_group')), _negated=True), name='customers_rfm_change_moves')],
            },
        ),
        AppendOnly("customers_rfmchange"),
    ]
