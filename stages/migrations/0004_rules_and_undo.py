"""Drafts know what they were drafted from, publishing knows how and by whom, and a night can be undone."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import lifecycle_crm.lib.clock
from lifecycle_crm.lib.appendonly import StaysAppendOnly


class Migration(migrations.Migration):
    dependencies = [
        ("customers", "0001_initial"),
        ("stages", "0003_stage_install"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        StaysAppendOnly("stages_stagetransition"),
        migrations.CreateModel(
            name="Backtest",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "rules",
                    models.JSONField(help_text="As they were when the replay was asked for.", verbose_name="rules"),
                ),
                ("months", models.PositiveSmallIntegerField(verbose_name="months")),
                ("last_day", models.DateField(verbose_name="last date")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("running", "Running"),
                            ("done", "Done"),
                            ("failed", "Stopped"),
                        ],
                        default="waiting",
                        max_length=8,
                        verbose_name="state",
                    ),
                ),
                ("done", models.PositiveIntegerField(default=0, verbose_name="nights done")),
                ("nights", models.PositiveIntegerField(default=0, verbose_name="nights")),
                ("customers", models.PositiveIntegerField(default=0, verbose_name="customers replayed")),
                ("base_customers", models.PositiveIntegerField(default=0, verbose_name="customers in all")),
                ("result", models.JSONField(default=dict, verbose_name="result")),
                ("error", models.CharField(blank=True, max_length=500, verbose_name="error")),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("owner", models.CharField(blank=True, max_length=100)),
                ("lease_until", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "verbose_name": "replay of rules",
                "verbose_name_plural": "replays of rules",
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="RuleApproval",
            fields=[
                (
                    "rule_set",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="approval",
                        serialize=False,
                        to="stages.ruleset",
                    ),
                ),
                (
                    "mode",
                    models.CharField(
                        choices=[
                            ("quiet", "Move people quietly: no campaign starts from these moves"),
                            ("move", "Move people and let campaigns start"),
                            ("later", "Only people who change from now on"),
                        ],
                        max_length=8,
                        verbose_name="how",
                    ),
                ),
                ("moving", models.PositiveIntegerField(verbose_name="customers who would move")),
                ("requested_at", models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ("approved_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "verbose_name": "approval of rules",
                "verbose_name_plural": "approvals of rules",
            },
        ),
        migrations.RemoveConstraint(
            model_name="stagetransition",
            name="stages_transition_says_who",
        ),
        migrations.AddField(
            model_name="night",
            name="undo",
            field=models.JSONField(default=dict, verbose_name="what undoing did"),
        ),
        migrations.AddField(
            model_name="night",
            name="undone_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="undone"),
        ),
        migrations.AddField(
            model_name="night",
            name="undone_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="ruleset",
            name="base",
            field=models.ForeignKey(
                blank=True,
                help_text="The version that was in force when this one was drafted.",
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="stages.ruleset",
            ),
        ),
        migrations.AddField(
            model_name="ruleset",
            name="mode",
            field=models.CharField(
                blank=True,
                choices=[
                    ("quiet", "Move people quietly: no campaign starts from these moves"),
                    ("move", "Move people and let campaigns start"),
                    ("later", "Only people who change from now on"),
                ],
                max_length=8,
                verbose_name="published how",
            ),
        ),
        migrations.AddField(
            model_name="ruleset",
            name="published_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="stagetransition",
            name="undoes",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                help_text="The move that this one takes back.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="undone_by",
                to="stages.stagetransition",
            ),
        ),
        migrations.AlterField(
            model_name="stagetransition",
            name="kind",
            field=models.CharField(
                choices=[("rule", "By rule"), ("person", "By hand"), ("undo", "Undone")], default="rule", max_length=8
            ),
        ),
        migrations.AddConstraint(
            model_name="stagetransition",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "rule"), ("rule_set__isnull", False)),
                    models.Q(("kind", "person"), ("user__isnull", False)),
                    models.Q(("kind", "undo"), ("undoes__isnull", False)),
                    _connector="OR",
                ),
                name="stages_transition_says_who",
            ),
        ),
        migrations.AddConstraint(
            model_name="stagetransition",
            constraint=models.UniqueConstraint(fields=("undoes",), name="stages_transition_undone_once"),
        ),
        migrations.AddField(
            model_name="backtest",
            name="against",
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="+", to="stages.ruleset"),
        ),
        migrations.AddField(
            model_name="backtest",
            name="created_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="backtest",
            name="rule_set",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="backtests", to="stages.ruleset"
            ),
        ),
        migrations.AddField(
            model_name="ruleapproval",
            name="approved_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="ruleapproval",
            name="requested_by",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddConstraint(
            model_name="ruleapproval",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("approved_by__isnull", True),
                    models.Q(("approved_by", models.F("requested_by")), _negated=True),
                    _connector="OR",
                ),
                name="stages_approval_by_a_second_person",
            ),
        ),
        StaysAppendOnly("stages_stagetransition"),
    ]
