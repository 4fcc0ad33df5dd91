"""The steps 0001_initial to 0005_undone_once_where_undone in one, for a database that begins here: it takes half of their time.

A database that has taken the steps counts as having taken this. Whoever stopped in between goes on with them, so they
stay until a release that nobody comes from before.
"""

from importlib import import_module

import django.db.models.deletion
import lifecycle_crm.lib.clock
from django.conf import settings
from django.db import migrations, models
from lifecycle_crm.lib.appendonly import AppendOnly

stages = import_module("stages.migrations.0003_stage_install")


class Migration(migrations.Migration):

    initial = True
    replaces = [
        ("stages", "0001_initial"),
        ("stages", "0002_transition_append_only"),
        ("stages", "0003_stage_install"),
        ("stages", "0004_rules_and_undo"),
        ("stages", "0005_undone_once_where_undone"),
    ]

    dependencies = [
        ('accounts', '__first__'),
        ('customers', '0001_squashed_0009_search_by_trigram'),
    ]

    operations = [
        migrations.CreateModel(
            name='RuleSet',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('version', models.PositiveIntegerField(unique=True, verbose_name='version')),
                ('name', models.CharField(max_length=80, verbose_name='name')),
                ('state', models.CharField(choices=[('draft', 'Draft'), ('published', 'Published'), ('retired', 'Retired')], default='draft', max_length=10, verbose_name='state')),
                ('rules', models.JSONField(help_text='Ordered list; the first rule whose condition holds decides.', verbose_name='rules')),
                ('note', models.TextField(blank=True, verbose_name='note')),
                ('created_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('published_at', models.DateTimeField(blank=True, null=True)),
                ('mode', models.CharField(blank=True, choices=[('quiet', 'Move people quietly: no campaign starts from these moves'), ('move', 'Move people and let campaigns start'), ('later', 'Only people who change from now on')], max_length=8, verbose_name='published how')),
                ('base', models.ForeignKey(blank=True, help_text='The version that was in force when this one was drafted.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='stages.ruleset')),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('published_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'rule set',
                'verbose_name_plural': 'rule sets',
                'ordering': ['-version'],
                'constraints': [models.UniqueConstraint(condition=models.Q(('state', 'published')), fields=('state',), name='stages_rule_set_one_published')],
            },
        ),
        migrations.CreateModel(
            name='Stage',
            fields=[
                ('key', models.CharField(choices=[('reach', 'Reach'), ('acquire', 'Acquire'), ('nurture', 'Nurture'), ('retain', 'Retain'), ('advocate', 'Advocate'), ('dormant', 'Dormant')], max_length=12, primary_key=True, serialize=False)),
                ('position', models.PositiveSmallIntegerField(unique=True)),
                ('goal', models.CharField(blank=True, max_length=200, verbose_name='goal')),
                ('playbook', models.JSONField(blank=True, default=list, help_text='A list of activities, in order.', verbose_name='playbook')),
            ],
            options={
                'verbose_name': 'stage',
                'verbose_name_plural': 'stages',
                'ordering': ['position'],
            },
        ),
        migrations.CreateModel(
            name='Night',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('business_date', models.DateField(unique=True, verbose_name='business date')),
                ('as_of', models.DateTimeField(verbose_name='decides as of')),
                ('state', models.CharField(choices=[('running', 'Running'), ('done', 'Done'), ('failed', 'Stopped')], default='running', max_length=8, verbose_name='state')),
                ('is_full', models.BooleanField(default=False, verbose_name='everybody')),
                ('is_quiet', models.BooleanField(default=False, help_text='Moves stages, starts no message.', verbose_name='quiet')),
                ('counts', models.JSONField(default=dict, verbose_name='counts')),
                ('error', models.CharField(blank=True, max_length=500, verbose_name='error')),
                ('started_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('undone_at', models.DateTimeField(blank=True, null=True, verbose_name='undone')),
                ('undo', models.JSONField(default=dict, verbose_name='what undoing did')),
                ('undone_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('rule_set', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='nights', to='stages.ruleset')),
            ],
            options={
                'verbose_name': 'night',
                'verbose_name_plural': 'nights',
                'ordering': ['-business_date'],
            },
        ),
        migrations.CreateModel(
            name='Pin',
            fields=[
                ('customer', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='pin', serialize=False, to='customers.customer')),
                ('stage', models.CharField(choices=[('reach', 'Reach'), ('acquire', 'Acquire'), ('nurture', 'Nurture'), ('retain', 'Retain'), ('advocate', 'Advocate'), ('dormant', 'Dormant')], max_length=12)),
                ('until', models.DateTimeField(verbose_name='until')),
                ('reason', models.CharField(max_length=300, verbose_name='reason')),
                ('created_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'pin',
                'verbose_name_plural': 'pins',
            },
        ),
        migrations.CreateModel(
            name='Backtest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('rules', models.JSONField(help_text='As they were when the replay was asked for.', verbose_name='rules')),
                ('months', models.PositiveSmallIntegerField(verbose_name='months')),
                ('last_day', models.DateField(verbose_name='last date')),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('running', 'Running'), ('done', 'Done'), ('failed', 'Stopped')], default='waiting', max_length=8, verbose_name='state')),
                ('done', models.PositiveIntegerField(default=0, verbose_name='nights done')),
                ('nights', models.PositiveIntegerField(default=0, verbose_name='nights')),
                ('customers', models.PositiveIntegerField(default=0, verbose_name='customers replayed')),
                ('base_customers', models.PositiveIntegerField(default=0, verbose_name='customers in all')),
                ('result', models.JSONField(default=dict, verbose_name='result')),
                ('error', models.CharField(blank=True, max_length=500, verbose_name='error')),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('owner', models.CharField(blank=True, max_length=100)),
                ('lease_until', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('against', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='stages.ruleset')),
                ('rule_set', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='backtests', to='stages.ruleset')),
            ],
            options={
                'verbose_name': 'replay of rules',
                'verbose_name_plural': 'replays of rules',
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='StageTransition',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('from_stage', models.CharField(blank=True, choices=[('reach', 'Reach'), ('acquire', 'Acquire'), ('nurture', 'Nurture'), ('retain', 'Retain'), ('advocate', 'Advocate'), ('dormant', 'Dormant')], max_length=12, verbose_name='from')),
                ('to_stage', models.CharField(choices=[('reach', 'Reach'), ('acquire', 'Acquire'), ('nurture', 'Nurture'), ('retain', 'Retain'), ('advocate', 'Advocate'), ('dormant', 'Dormant')], max_length=12, verbose_name='to')),
                ('kind', models.CharField(choices=[('rule', 'By rule'), ('person', 'By hand'), ('undo', 'Undone')], default='rule', max_length=8)),
                ('occurred_at', models.DateTimeField(help_text='The instant the decision was made for.', verbose_name='moved')),
                ('business_date', models.DateField(verbose_name='business date')),
                ('rule', models.CharField(blank=True, max_length=40, verbose_name='rule')),
                ('evidence', models.JSONField(default=dict, verbose_name='evidence')),
                ('reason', models.CharField(blank=True, max_length=300, verbose_name='reason')),
                ('is_quiet', models.BooleanField(default=False, help_text='Follows from loaded history or a quiet run: starts no message.', verbose_name='quiet')),
                ('recorded_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('customer', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='transitions', to='customers.customer')),
                ('night', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='transitions', to='stages.night')),
                ('rule_set', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='stages.ruleset')),
                ('undoes', models.ForeignKey(blank=True, db_index=False, help_text='The move that this one takes back.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='undone_by', to='stages.stagetransition')),
                ('user', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'move between stages',
                'verbose_name_plural': 'moves between stages',
                'ordering': ['-id'],
                'indexes': [models.Index(fields=['customer', 'id'], name='stages_transition_customer'), models.Index(fields=['business_date', 'from_stage', 'to_stage'], name='stages_transition_flow'), models.Index(fields=['night', 'to_stage'], name='stages_transition_night')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('night__isnull', False)), fields=('customer', 'night'), name='stages_transition_once_per_night'), models.CheckConstraint(condition=models.Q(('from_stage', models.F('to_stage')), _negated=True), name='stages_transition_moves'), models.CheckConstraint(condition=models.Q(models.Q(('kind', 'rule'), ('rule_set__isnull', False)), models.Q(('kind', 'person'), ('user__isnull', False)), models.Q(('kind', 'undo'), ('undoes__isnull', False)), _connector='OR'), name='stages_transition_says_who'), models.UniqueConstraint(condition=models.Q(('undoes__isnull', False)), fields=('undoes',), name='stages_transition_undone_once')],
            },
        ),
        migrations.CreateModel(
            name='Chunk',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('step', models.CharField(max_length=20)),
                ('position', models.PositiveSmallIntegerField()),
                ('low', models.BigIntegerField()),
                ('high', models.BigIntegerField()),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('running', 'Running'), ('done', 'Done'), ('failed', 'Set aside')], default='waiting', max_length=8)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('owner', models.CharField(blank=True, max_length=100)),
                ('lease_until', models.DateTimeField(blank=True, null=True)),
                ('result', models.JSONField(default=dict)),
                ('error', models.CharField(blank=True, max_length=500)),
                ('seconds', models.FloatField(blank=True, null=True)),
                ('night', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='chunks', to='stages.night')),
            ],
            options={
                'verbose_name': 'part of a night',
                'verbose_name_plural': 'parts of a night',
                'ordering': ['night', 'position', 'low'],
                'constraints': [models.UniqueConstraint(fields=('night', 'step', 'low'), name='stages_chunk_once_per_night')],
            },
        ),
        migrations.CreateModel(
            name='RuleApproval',
            fields=[
                ('rule_set', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='approval', serialize=False, to='stages.ruleset')),
                ('mode', models.CharField(choices=[('quiet', 'Move people quietly: no campaign starts from these moves'), ('move', 'Move people and let campaigns start'), ('later', 'Only people who change from now on')], max_length=8, verbose_name='how')),
                ('moving', models.PositiveIntegerField(verbose_name='customers who would move')),
                ('requested_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('approved_at', models.DateTimeField(blank=True, null=True)),
                ('approved_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('requested_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'approval of rules',
                'verbose_name_plural': 'approvals of rules',
                'constraints': [models.CheckConstraint(condition=models.Q(('approved_by__isnull', True), models.Q(('approved_by', models.F('requested_by')), _negated=True), _connector='OR'), name='stages_approval_by_a_second_person')],
            },
        ),
        AppendOnly("stages_stagetransition"),
        migrations.RunPython(stages.install, migrations.RunPython.noop),
    ]
