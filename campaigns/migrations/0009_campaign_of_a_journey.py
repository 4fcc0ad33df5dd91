"""Which step of which journey a campaign sends: until now in the words of its key, ``journey-<id>-<step>-<template id>``."""

import re

import django.db.models.deletion
from django.db import migrations, models

KEY = re.compile(r"journey-(\d+)-(.+)-\d+")


def to_columns(apps, schema_editor):
    Campaign = apps.get_model("campaigns", "Campaign")
    for campaign in Campaign.objects.filter(kind="journey"):
        found = KEY.fullmatch(campaign.key)
        campaign.journey_id, campaign.step, campaign.key = int(found[1]), found[2], None
        campaign.save(update_fields=["journey", "step", "key"])


def to_keys(apps, schema_editor):
    Campaign = apps.get_model("campaigns", "Campaign")
    for campaign in Campaign.objects.filter(kind="journey"):
        campaign.key = f"journey-{campaign.journey_id}-{campaign.step}-{campaign.template_id}"
        campaign.save(update_fields=["key"])


class Migration(migrations.Migration):
    dependencies = [("campaigns", "0008_editable_templates")]

    operations = [
        migrations.AddField(
            model_name="campaign",
            name="journey",
            field=models.ForeignKey(
                blank=True,
                editable=False,
                help_text="Whose step it sends.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="campaigns",
                to="campaigns.journey",
            ),
        ),
        migrations.AddField(
            model_name="campaign",
            name="step",
            field=models.CharField(blank=True, editable=False, max_length=20, verbose_name="step"),
        ),
        migrations.RunPython(to_columns, to_keys),
        migrations.AddConstraint(
            model_name="campaign",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("journey__isnull", False), ("kind", "journey"), models.Q(("step", ""), _negated=True)
                    ),
                    models.Q(
                        models.Q(("kind", "journey"), _negated=True), ("journey__isnull", True), ("step", "")
                    ),
                    _connector="OR",
                ),
                name="campaigns_step_is_of_a_journey",
            ),
        ),
        migrations.AddConstraint(
            model_name="campaign",
            constraint=models.UniqueConstraint(
                condition=models.Q(("journey__isnull", False)),
                fields=("journey", "step", "template"),
                name="campaigns_step_says_a_text_once",
            ),
        ),
    ]
