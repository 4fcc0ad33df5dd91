"""The steps 0001_rollups to 0003_ways in one, for a database that begins here: it takes half of their time.

A database that has taken the steps counts as having taken this. Whoever stopped in between goes on with them, so they
stay until a release that nobody comes from before.
"""

import lifecycle_crm.lib.clock
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True
    replaces = [
        ("dashboard", "0001_rollups"),
        ("dashboard", "0002_retentionday_lost"),
        ("dashboard", "0003_ways"),
    ]

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='LateDay',
            fields=[
                ('business_date', models.DateField(primary_key=True, serialize=False, verbose_name='business date')),
            ],
            options={
                'verbose_name': 'day to count again',
                'verbose_name_plural': 'days to count again',
            },
        ),
        migrations.CreateModel(
            name='ReportDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('business_date', models.DateField(unique=True, verbose_name='business date')),
                ('points_outstanding', models.BigIntegerField(verbose_name='points outstanding')),
                ('points_liability_minor', models.BigIntegerField(verbose_name='worth of points outstanding')),
                ('points_expiring', models.BigIntegerField(verbose_name='points that expire in 30 days')),
                ('members', models.PositiveIntegerField(verbose_name='members of the programme')),
                ('treated', models.PositiveIntegerField(verbose_name='got a win-back message')),
                ('treated_back', models.PositiveIntegerField(verbose_name='of them came back')),
                ('held_out', models.PositiveIntegerField(verbose_name='held out of win-back')),
                ('held_out_back', models.PositiveIntegerField(verbose_name='of them came back')),
            ],
            options={
                'verbose_name': 'report of a day',
                'verbose_name_plural': 'reports by day',
                'ordering': ['-business_date'],
            },
        ),
        migrations.CreateModel(
            name='TradeDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('business_date', models.DateField(unique=True, verbose_name='business date')),
                ('orders', models.PositiveIntegerField(verbose_name='orders')),
                ('revenue_minor', models.BigIntegerField(verbose_name='revenue')),
                ('buyers', models.PositiveIntegerField(verbose_name='buyers')),
                ('first_buyers', models.PositiveIntegerField(verbose_name='first buyers')),
                ('first_revenue_minor', models.BigIntegerField(verbose_name='revenue from first buyers')),
                ('regular_revenue_minor', models.BigIntegerField(verbose_name='revenue from regulars')),
                ('returned', models.PositiveIntegerField(blank=True, null=True, verbose_name='came back within 90 days')),
            ],
            options={
                'verbose_name': 'orders of a day',
                'verbose_name_plural': 'orders by day',
                'ordering': ['-business_date'],
            },
        ),
        migrations.CreateModel(
            name='ArrivalDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('business_date', models.DateField(verbose_name='business date')),
                ('stage', models.CharField(choices=[('retain', 'Retain'), ('advocate', 'Advocate'), ('dormant', 'Dormant')], max_length=12, verbose_name='stage')),
                ('days', models.PositiveIntegerField(verbose_name='days since the first order')),
                ('people', models.PositiveIntegerField(verbose_name='people')),
            ],
            options={
                'verbose_name': 'first arrivals on a day',
                'verbose_name_plural': 'first arrivals by day',
                'ordering': ['-business_date', 'stage', 'days'],
                'constraints': [models.UniqueConstraint(fields=('business_date', 'stage', 'days'), name='dashboard_arrival_day_once')],
            },
        ),
        migrations.CreateModel(
            name='FlowDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('business_date', models.DateField(verbose_name='business date')),
                ('from_stage', models.CharField(blank=True, choices=[('reach', 'Reach'), ('acquire', 'Acquire'), ('nurture', 'Nurture'), ('retain', 'Retain'), ('advocate', 'Advocate'), ('dormant', 'Dormant')], max_length=12, verbose_name='from')),
                ('to_stage', models.CharField(choices=[('reach', 'Reach'), ('acquire', 'Acquire'), ('nurture', 'Nurture'), ('retain', 'Retain'), ('advocate', 'Advocate'), ('dormant', 'Dormant')], max_length=12, verbose_name='to')),
                ('moves', models.PositiveIntegerField(verbose_name='moves')),
            ],
            options={
                'verbose_name': 'moves on a day',
                'verbose_name_plural': 'moves by day',
                'ordering': ['-business_date', 'from_stage', 'to_stage'],
                'constraints': [models.UniqueConstraint(fields=('business_date', 'from_stage', 'to_stage'), name='dashboard_flow_day_once')],
            },
        ),
        migrations.CreateModel(
            name='FlowPeriod',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('since', models.DateField(verbose_name='from the end of')),
                ('until', models.DateField(verbose_name='to the end of')),
                ('ways', models.JSONField(default=dict, verbose_name='people by way')),
                ('rules', models.JSONField(default=list, verbose_name='rules')),
                ('made_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
            ],
            options={
                'verbose_name': 'ways of a period',
                'verbose_name_plural': 'ways by period',
                'ordering': ['-until', '-since'],
                'constraints': [models.UniqueConstraint(fields=('until', 'since'), name='dashboard_flow_period_once')],
            },
        ),
        migrations.CreateModel(
            name='RetentionDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('business_date', models.DateField(verbose_name='business date')),
                ('days', models.PositiveSmallIntegerField(verbose_name='days')),
                ('buyers_before', models.PositiveIntegerField(verbose_name='buyers before')),
                ('came_back', models.PositiveIntegerField(verbose_name='bought again')),
                ('lost', models.PositiveIntegerField(verbose_name='went dormant')),
            ],
            options={
                'verbose_name': 'retention on a day',
                'verbose_name_plural': 'retention by day',
                'ordering': ['-business_date', 'days'],
                'constraints': [models.UniqueConstraint(fields=('business_date', 'days'), name='dashboard_retention_day_once')],
            },
        ),
        migrations.CreateModel(
            name='StageDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('business_date', models.DateField(verbose_name='business date')),
                ('stage', models.CharField(choices=[('reach', 'Reach'), ('acquire', 'Acquire'), ('nurture', 'Nurture'), ('retain', 'Retain'), ('advocate', 'Advocate'), ('dormant', 'Dormant')], max_length=12, verbose_name='stage')),
                ('customers', models.PositiveIntegerField(verbose_name='customers')),
                ('entered', models.PositiveIntegerField(verbose_name='moved in')),
                ('left', models.PositiveIntegerField(verbose_name='moved out')),
            ],
            options={
                'verbose_name': 'stage on a day',
                'verbose_name_plural': 'stages by day',
                'ordering': ['-business_date', 'stage'],
                'constraints': [models.UniqueConstraint(fields=('business_date', 'stage'), name='dashboard_stage_day_once')],
            },
        ),
        migrations.CreateModel(
            name='StayDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('stage', models.CharField(choices=[('reach', 'Reach'), ('acquire', 'Acquire'), ('nurture', 'Nurture'), ('retain', 'Retain'), ('advocate', 'Advocate'), ('dormant', 'Dormant')], max_length=12, verbose_name='stage')),
                ('began', models.DateField(verbose_name='began')),
                ('ended', models.DateField(verbose_name='ended')),
                ('stays', models.PositiveIntegerField(verbose_name='stays')),
            ],
            options={
                'verbose_name': 'stays that ended on a day',
                'verbose_name_plural': 'stays by day',
                'ordering': ['-ended', 'stage', '-began'],
                'constraints': [models.UniqueConstraint(fields=('ended', 'stage', 'began'), name='dashboard_stay_day_once')],
            },
        ),
    ]
