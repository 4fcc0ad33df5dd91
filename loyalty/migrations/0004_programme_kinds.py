import django.db.models.deletion
import lifecycle_crm.lib.clock
from django.conf import settings
from django.db import migrations, models
from django.utils.text import slugify


def name_them(apps, schema_editor):
    programme = apps.get_model("loyalty", "Programme")
    taken = set()
    for one in programme.objects.order_by("pk"):
        base = slugify(one.name)[:50] or "programme"
        one.key = base if base not in taken else f"{base}-{one.pk}"
        taken.add(one.key)
        one.save(update_fields=["key"])


class Migration(migrations.Migration):
    """Several programmes side by side, of three kinds, and who is in those that one joins."""

    dependencies = [
        ('customers', '0004_segments'),
        ('loyalty', '0003_programme_install'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Membership',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.CharField(max_length=40, verbose_name='card number')),
                ('joined_at', models.DateTimeField(verbose_name='joined')),
                ('ends_at', models.DateTimeField(blank=True, null=True, verbose_name='ends')),
                ('left_at', models.DateTimeField(blank=True, null=True, verbose_name='left')),
                ('paid_minor', models.PositiveIntegerField(default=0, verbose_name='paid so far')),
                ('renewals', models.PositiveSmallIntegerField(default=0, verbose_name='renewed')),
                ('key', models.CharField(blank=True, max_length=255, verbose_name='key of the last payment')),
                ('recorded_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
            ],
            options={
                'verbose_name': 'membership',
                'verbose_name_plural': 'memberships',
                'ordering': ['-id'],
            },
        ),
        migrations.AlterModelOptions(
            name='programme',
            options={'ordering': ['position', 'id'], 'verbose_name': 'programme', 'verbose_name_plural': 'programmes'},
        ),
        migrations.AddField(
            model_name='programme',
            name='about',
            field=models.CharField(blank=True, max_length=300, verbose_name='in one sentence'),
        ),
        migrations.AddField(
            model_name='programme',
            name='fee_minor',
            field=models.PositiveIntegerField(default=0, help_text='What joining or renewing costs, in minor units. 0: free.', verbose_name='fee'),
        ),
        migrations.AddField(
            model_name='programme',
            name='joining',
            field=models.CharField(choices=[('everybody', 'Everybody is in it'), ('asked', 'Customers join')], default='everybody', max_length=10, verbose_name='who is in it'),
        ),
        migrations.AddField(
            model_name='programme',
            name='key',
            field=models.SlugField(default='', max_length=60, verbose_name='key', db_index=False),
            preserve_default=False,
        ),
        migrations.RunPython(name_them, migrations.RunPython.noop),
        migrations.AlterField(
            model_name='programme',
            name='key',
            field=models.SlugField(max_length=60, unique=True, verbose_name='key'),
        ),
        migrations.AddField(
            model_name='programme',
            name='kind',
            field=models.CharField(choices=[('points', 'Points'), ('membership', 'Membership'), ('card', 'Card')], default='points', max_length=10, verbose_name='kind'),
        ),
        migrations.AddField(
            model_name='programme',
            name='position',
            field=models.PositiveSmallIntegerField(default=100, help_text='The active points programme that comes first is the main one.', verbose_name='order'),
        ),
        migrations.AddField(
            model_name='programme',
            name='term_months',
            field=models.PositiveSmallIntegerField(blank=True, help_text='Empty: until the customer leaves.', null=True, verbose_name='months a membership runs'),
        ),
        migrations.AddConstraint(
            model_name='programme',
            constraint=models.CheckConstraint(condition=models.Q(('kind', 'points'), ('joining', 'asked'), _connector='OR'), name='loyalty_membership_and_card_are_joined'),
        ),
        migrations.AddConstraint(
            model_name='programme',
            constraint=models.CheckConstraint(condition=models.Q(('fee_minor', 0), ('joining', 'asked'), _connector='OR'), name='loyalty_fee_only_where_one_joins'),
        ),
        migrations.AddField(
            model_name='membership',
            name='actor',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='membership',
            name='customer',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='memberships', to='customers.customer'),
        ),
        migrations.AddField(
            model_name='membership',
            name='programme',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='memberships', to='loyalty.programme'),
        ),
        migrations.AddIndex(
            model_name='membership',
            index=models.Index(fields=['customer', 'programme'], name='loyalty_membership_customer'),
        ),
        migrations.AddConstraint(
            model_name='membership',
            constraint=models.UniqueConstraint(condition=models.Q(('left_at', None)), fields=('programme', 'customer'), name='loyalty_membership_once_at_a_time'),
        ),
        migrations.AddConstraint(
            model_name='membership',
            constraint=models.UniqueConstraint(fields=('programme', 'number'), name='loyalty_membership_number_once'),
        ),
        migrations.AddConstraint(
            model_name='membership',
            constraint=models.CheckConstraint(condition=models.Q(('ends_at', None), ('ends_at__gt', models.F('joined_at')), _connector='OR'), name='loyalty_membership_ends_after_it_began'),
        ),
    ]
