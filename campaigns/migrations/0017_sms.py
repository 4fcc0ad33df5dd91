"""SMS as a second channel: what it needs is beside what e-mail has."""

from __future__ import annotations

from django.db import migrations, models

import lifecycle_crm.lib.clock


class Migration(migrations.Migration):
    dependencies = [
        ("campaigns", "0016_webhooks"),
    ]

    operations = [
        migrations.RemoveConstraint("suppression", "campaigns_suppression_once_per_reason"),
        migrations.RenameField("suppression", "email_key", "address_key"),
        migrations.CreateModel(
            name='Reply',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('source', models.CharField(max_length=30, verbose_name='told by')),
                ('source_id', models.CharField(max_length=200, verbose_name='number at the source')),
                ('phone', models.CharField(max_length=20, verbose_name='phone')),
                ('text', models.CharField(blank=True, max_length=500, verbose_name='text')),
                ('is_stop', models.BooleanField(verbose_name='asks us to stop')),
                ('received_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False, verbose_name='received')),
            ],
            options={
                'verbose_name': 'reply by SMS',
                'verbose_name_plural': 'replies by SMS',
                'ordering': ['-id'],
            },
        ),
        migrations.AddField(
            model_name='message',
            name='parts',
            field=models.PositiveSmallIntegerField(db_default=0, default=0, help_text='Of an SMS: how many short messages are paid for.', verbose_name='parts'),
        ),
        migrations.AddField(
            model_name='sendingrules',
            name='cost_per_thousand_parts_minor',
            field=models.PositiveIntegerField(default=0, help_text="In hundredths (minor units) of the shop's currency. A long SMS is sent, and paid, in parts.", verbose_name='what 1,000 parts of SMS cost'),
        ),
        migrations.AddField(
            model_name='suppression',
            name='channel',
            field=models.CharField(choices=[('email', 'E-mail'), ('sms', 'SMS')], default='email', max_length=8, verbose_name='channel'),
        ),
        migrations.AddField(
            model_name='template',
            name='channel',
            field=models.CharField(choices=[('email', 'E-mail'), ('sms', 'SMS')], default='email', help_text='What a campaign says it over. It never changes.', max_length=8, verbose_name='channel'),
        ),
        migrations.AlterField(
            model_name='campaign',
            name='channel',
            field=models.CharField(choices=[('email', 'E-mail'), ('sms', 'SMS')], default='email', max_length=8, verbose_name='channel'),
        ),
        migrations.AlterField(
            model_name='message',
            name='channel',
            field=models.CharField(choices=[('email', 'E-mail'), ('sms', 'SMS')], max_length=8, verbose_name='channel'),
        ),
        migrations.AlterField(
            model_name='message',
            name='reason',
            field=models.CharField(blank=True, choices=[('no_address', 'has no e-mail address'), ('no_phone', 'has no phone number'), ('no_consent', 'has not agreed to this'), ('unsubscribed', 'has unsubscribed'), ('bounced', 'address cannot receive'), ('complained', 'marked a message as spam'), ('manual', 'was put on the stop list by hand'), ('quiet_hours', 'waits for the morning where they live'), ('capped', 'had enough messages lately'), ('open_case', 'has a complaint that is being handled'), ('recent_detractor', 'was unhappy with us lately'), ('pending_refund', 'is waiting for a refund'), ('late_delivery', 'is waiting for a late delivery'), ('just_bought', 'bought something a few days ago'), ('throttled', 'waits for its turn with this mail provider'), ('came_back', 'came back before it was sent'), ('stale', 'the occasion is too long ago'), ('inactive', 'the campaign was stopped'), ('render', 'the text could not be made'), ('bad_address', 'address cannot be written on an envelope'), ('refused', 'the server refused it'), ('later', 'the server asked for later'), ('gave_up', 'still refused after the last try'), ('no_answer', 'handed over, but the answer got lost'), ('sender_died', 'the sender stopped while it was on its way'), ('cancelled', 'the run was cancelled'), ('holdout', 'gets nothing on purpose, to measure the effect')], max_length=20, verbose_name='reason'),
        ),
        migrations.AlterField(
            model_name='suppression',
            name='address_key',
            field=models.CharField(help_text='An e-mail address, or a phone number such as +46701234567.', max_length=254, verbose_name='address'),
        ),
        migrations.AlterField(
            model_name='templatevariant',
            name='subject',
            field=models.CharField(blank=True, max_length=200, verbose_name='subject'),
        ),
        migrations.AlterField(
            model_name='trialmessage',
            name='sent_to',
            field=models.CharField(max_length=254, verbose_name='sent to'),
        ),
        migrations.AddConstraint(
            model_name='suppression',
            constraint=models.UniqueConstraint(fields=('channel', 'address_key', 'reason'), name='campaigns_suppression_once_per_reason'),
        ),
        migrations.AddConstraint(
            model_name='reply',
            constraint=models.UniqueConstraint(fields=('source', 'source_id'), name='campaigns_reply_once_per_source'),
        ),
        migrations.AlterField(
            model_name="message",
            name="error",
            field=models.CharField(blank=True, max_length=500, verbose_name="answer of the server"),
        ),
        migrations.AlterField(
            model_name="trialmessage",
            name="error",
            field=models.CharField(blank=True, max_length=500, verbose_name="answer of the server"),
        ),
        migrations.CreateModel(
            name='Outage',
            fields=[
                ('channel', models.CharField(choices=[('email', 'E-mail'), ('sms', 'SMS')], max_length=8, primary_key=True, serialize=False, verbose_name='channel')),
                ('said', models.CharField(max_length=500, verbose_name='what was said')),
                ('since', models.DateTimeField(default=lifecycle_crm.lib.clock.now, verbose_name='since')),
            ],
            options={
                'verbose_name': 'outage of a channel',
                'verbose_name_plural': 'outages of channels',
            },
        ),
    ]
