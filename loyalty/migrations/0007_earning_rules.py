import django.db.models.deletion
import lifecycle_crm.lib.clock
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    """Earning rules and tiers as data."""

    dependencies = [
        ('customers', '0004_segments'),
        ('loyalty', '0006_holds_transfers_approvals'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='EarningRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.SlugField(max_length=60, verbose_name='key')),
                ('version', models.PositiveIntegerField(default=1, verbose_name='version')),
                ('name', models.CharField(help_text='Said to customers, such as: double points on Sundays.', max_length=80, verbose_name='name')),
                ('kind', models.CharField(choices=[('amount', 'For the amount of an order'), ('order', 'For each order'), ('product', 'For a product'), ('category', 'For a category'), ('event', 'For an event'), ('first_order', 'For the first order'), ('birthday', 'For a birthday'), ('referral', 'For a referral'), ('review', 'For a review'), ('survey', 'For an answered survey'), ('stage', 'For entering a stage'), ('multiplier', 'Points times')], max_length=12, verbose_name='kind')),
                ('subject', models.CharField(blank=True, help_text='A SKU, a category, an event name or a stage.', max_length=120, verbose_name='of what')),
                ('property', models.CharField(blank=True, help_text='Points are counted by this number.', max_length=80, verbose_name='property of the event')),
                ('points', models.PositiveIntegerField(default=0, verbose_name='points')),
                ('per', models.PositiveBigIntegerField(blank=True, help_text="Minor units of the shop's currency, or units of the event's property. Empty: for each one.", null=True, verbose_name='for each')),
                ('percent', models.PositiveIntegerField(default=100, help_text='Of a multiplier: 200 doubles what the other rules give.', verbose_name='percent')),
                ('weekdays', models.CharField(blank=True, help_text='1 is Monday, 7 is Sunday.', max_length=7, verbose_name='weekdays')),
                ('dates', models.JSONField(blank=True, default=list, help_text='2026-12-24, or 12-24 for every year.', verbose_name='dates')),
                ('tiers', models.JSONField(blank=True, default=list, verbose_name='tiers')),
                ('stages', models.JSONField(blank=True, default=list, verbose_name='stages')),
                ('limit_points', models.PositiveIntegerField(blank=True, null=True, verbose_name='at most so many points')),
                ('limit_times', models.PositiveIntegerField(blank=True, null=True, verbose_name='at most so many times')),
                ('limit_per', models.CharField(blank=True, choices=[('day', 'a day'), ('week', 'a week'), ('month', 'a month'), ('year', 'a year'), ('ever', 'in all')], max_length=5, verbose_name='in')),
                ('starts_at', models.DateTimeField(blank=True, null=True, verbose_name='holds from')),
                ('ends_at', models.DateTimeField(blank=True, null=True, verbose_name='holds until')),
                ('is_current', models.BooleanField(default=True, verbose_name='current version')),
                ('position', models.PositiveSmallIntegerField(default=100, verbose_name='order')),
                ('created_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('programme', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='rules', to='loyalty.programme')),
                ('segment', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='customers.segment', verbose_name='segment')),
            ],
            options={
                'verbose_name': 'earning rule',
                'verbose_name_plural': 'earning rules',
                'ordering': ['programme', 'position', 'id'],
                'constraints': [models.UniqueConstraint(fields=('programme', 'key', 'version'), name='loyalty_rule_version_once'), models.UniqueConstraint(condition=models.Q(('is_current', True)), fields=('programme', 'key'), name='loyalty_rule_one_current_version'), models.CheckConstraint(condition=models.Q(models.Q(('kind', 'multiplier'), ('percent__gt', 100)), models.Q(models.Q(('kind', 'multiplier'), _negated=True), ('points__gt', 0)), _connector='OR'), name='loyalty_rule_gives_something'), models.CheckConstraint(condition=models.Q(('per', None), ('per__gt', 0), _connector='OR'), name='loyalty_rule_steps_forward'), models.CheckConstraint(condition=models.Q(('ends_at', None), ('starts_at', None), ('ends_at__gte', models.F('starts_at')), _connector='OR'), name='loyalty_rule_ends_after_it_began'), models.CheckConstraint(condition=models.Q(models.Q(('limit_per', ''), ('limit_points', None), ('limit_times', None)), models.Q(models.Q(('limit_per', ''), _negated=True), models.Q(('limit_points__isnull', False), ('limit_times__isnull', False), _connector='OR')), _connector='OR'), name='loyalty_rule_limit_has_a_period')],
            },
        ),
        migrations.CreateModel(
            name='Ladder',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('measure', models.CharField(choices=[('points', 'Points earned'), ('spend', 'Money spent'), ('orders', 'Orders')], default='points', max_length=6, verbose_name='what counts')),
                ('window', models.CharField(choices=[('rolling', 'The last months'), ('calendar', 'The calendar year'), ('lifetime', 'Since the beginning')], default='rolling', max_length=8, verbose_name='over')),
                ('window_months', models.PositiveSmallIntegerField(default=12, verbose_name='months')),
                ('grace_days', models.PositiveSmallIntegerField(default=0, help_text='Who has too little keeps the tier for so many days.', verbose_name='days of grace')),
                ('step_down', models.CharField(choices=[('one', 'One tier at a time'), ('balance', 'To the tier they still reach')], default='balance', max_length=7, verbose_name='step down')),
                ('changed_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('programme', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='ladder', to='loyalty.programme')),
            ],
            options={
                'verbose_name': 'tier rules',
                'verbose_name_plural': 'tier rules',
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('step_down', 'one'), _negated=True), ('grace_days__gt', 0), _connector='OR'), name='loyalty_ladder_steps_have_time_between'), models.CheckConstraint(condition=models.Q(('window_months__gt', 0)), name='loyalty_ladder_window_has_length')],
            },
        ),
        migrations.CreateModel(
            name='RuleUse',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('rule_key', models.CharField(max_length=60)),
                ('cause', models.CharField(max_length=255)),
                ('points', models.PositiveIntegerField()),
                ('day', models.IntegerField(help_text='Days since 0001-01-01.')),
                ('week', models.IntegerField()),
                ('month', models.IntegerField()),
                ('year', models.IntegerField()),
                ('customer', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='customers.customer')),
                ('programme', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='loyalty.programme')),
            ],
            options={
                'verbose_name': 'use of a limited rule',
                'verbose_name_plural': 'uses of limited rules',
                'constraints': [models.UniqueConstraint(fields=('customer', 'programme', 'rule_key', 'cause'), name='loyalty_rule_use_once_per_cause')],
            },
        ),
        migrations.CreateModel(
            name='Tier',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.SlugField(max_length=40, verbose_name='key')),
                ('name', models.CharField(max_length=60, verbose_name='name')),
                ('threshold', models.PositiveBigIntegerField(verbose_name='from')),
                ('benefits', models.JSONField(blank=True, default=list, help_text='One sentence each.', verbose_name='benefits')),
                ('programme', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='tiers', to='loyalty.programme')),
            ],
            options={
                'verbose_name': 'tier',
                'verbose_name_plural': 'tiers',
                'ordering': ['programme', 'threshold'],
                'constraints': [models.UniqueConstraint(fields=('programme', 'key'), name='loyalty_tier_key_once'), models.UniqueConstraint(fields=('programme', 'threshold'), name='loyalty_tier_threshold_once'), models.CheckConstraint(condition=models.Q(('threshold__gt', 0)), name='loyalty_tier_is_reached_by_something')],
            },
        ),
        migrations.CreateModel(
            name='TierChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('up', 'Reached'), ('down', 'Lost')], max_length=4, verbose_name='change')),
                ('from_tier', models.CharField(blank=True, max_length=40, verbose_name='from')),
                ('to_tier', models.CharField(blank=True, max_length=40, verbose_name='to')),
                ('counted', models.BigIntegerField(verbose_name='counted')),
                ('effective_at', models.DateTimeField(verbose_name='holds from')),
                ('recorded_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('is_history', models.BooleanField(default=False)),
                ('reacted_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('actor', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('customer', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='tier_changes', to='customers.customer')),
                ('programme', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='loyalty.programme')),
            ],
            options={
                'verbose_name': 'change of tier',
                'verbose_name_plural': 'changes of tier',
                'ordering': ['-id'],
                'indexes': [models.Index(fields=['customer', 'programme', 'effective_at'], name='loyalty_tier_change_customer'), models.Index(condition=models.Q(('reacted_at', None)), fields=['id'], name='loyalty_tier_change_to_react')],
                'constraints': [models.UniqueConstraint(fields=('programme', 'customer', 'effective_at'), name='loyalty_tier_change_once_at_a_moment'), models.CheckConstraint(condition=models.Q(('from_tier', models.F('to_tier')), _negated=True), name='loyalty_tier_change_changes')],
            },
        ),
        migrations.CreateModel(
            name='TierStanding',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('tier', models.CharField(blank=True, max_length=40, verbose_name='tier')),
                ('since', models.DateTimeField(verbose_name='since')),
                ('counted', models.BigIntegerField(default=0, verbose_name='counted')),
                ('grace_until', models.DateTimeField(blank=True, null=True, verbose_name='grace until')),
                ('check_at', models.DateTimeField(blank=True, null=True, verbose_name='next look')),
                ('customer', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='tier_standings', to='customers.customer')),
                ('programme', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='loyalty.programme')),
            ],
            options={
                'verbose_name': 'standing in a programme',
                'verbose_name_plural': 'standings in programmes',
                'indexes': [models.Index(condition=models.Q(('check_at__isnull', False)), fields=['check_at'], name='loyalty_standing_due'), models.Index(fields=['programme', 'tier'], name='loyalty_standing_tier')],
                'constraints': [models.UniqueConstraint(fields=('programme', 'customer'), name='loyalty_standing_once')],
            },
        ),
    ]
