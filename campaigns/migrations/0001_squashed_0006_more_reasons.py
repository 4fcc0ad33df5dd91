"""The steps 0001_initial to 0006_more_reasons in one, for a database that begins here: it takes half of their time.

A database that has taken the steps counts as having taken this. Whoever stopped in between goes on with them, so they
stay until a release that nobody comes from before.
"""

from importlib import import_module

import django.db.models.deletion
import lifecycle_crm.lib.clock
from django.conf import settings
from django.db import migrations, models

texts = import_module("campaigns.migrations.0002_first_texts")
sender = import_module("campaigns.migrations.0003_sending_speed")


class Migration(migrations.Migration):

    initial = True
    replaces = [
        ("campaigns", "0001_initial"),
        ("campaigns", "0002_first_texts"),
        ("campaigns", "0003_sending_speed"),
        ("campaigns", "0004_limits_and_tracking"),
        ("campaigns", "0005_visits_and_their_place"),
        ("campaigns", "0006_more_reasons"),
    ]

    dependencies = [
        ('accounts', '__first__'),
        ('customers', '0001_squashed_0009_search_by_trigram'),
    ]

    operations = [
        migrations.CreateModel(
            name='Message',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('channel', models.CharField(choices=[('email', 'E-mail')], max_length=8, verbose_name='channel')),
                ('state', models.CharField(choices=[('queued', 'Queued'), ('claimed', 'Taken by a sender'), ('sending', 'On its way'), ('sent', 'Sent'), ('retry', 'Will be tried again'), ('failed', 'Failed'), ('in_doubt', 'In doubt'), ('skipped', 'Skipped'), ('held_out', 'Held out'), ('cancelled', 'Cancelled')], default='queued', max_length=9, verbose_name='state')),
                ('reason', models.CharField(blank=True, choices=[('no_address', 'has no e-mail address'), ('no_consent', 'has not agreed to this'), ('unsubscribed', 'has unsubscribed'), ('bounced', 'address cannot receive'), ('complained', 'marked a message as spam'), ('manual', 'was put on the stop list by hand'), ('quiet_hours', 'waits for the morning where they live'), ('capped', 'had enough messages lately'), ('open_case', 'has a complaint that is being handled'), ('recent_detractor', 'was unhappy with us lately'), ('pending_refund', 'is waiting for a refund'), ('late_delivery', 'is waiting for a late delivery'), ('just_bought', 'bought something a few days ago'), ('throttled', 'waits for its turn with this mail provider'), ('came_back', 'came back before it was sent'), ('stale', 'the occasion is too long ago'), ('inactive', 'the campaign was stopped'), ('render', 'the text could not be made'), ('bad_address', 'address cannot be written on an envelope'), ('refused', 'the mail server refused it'), ('later', 'the mail server asked for later'), ('gave_up', 'still refused after the last try'), ('no_answer', 'handed over, but the answer got lost'), ('sender_died', 'the sender stopped while it was on its way'), ('cancelled', 'the run was cancelled'), ('holdout', 'gets nothing on purpose, to measure the effect')], max_length=20, verbose_name='reason')),
                ('verdict', models.JSONField(default=dict, help_text='What the gate looked at when it last decided.', verbose_name='verdict')),
                ('context', models.JSONField(blank=True, default=dict, help_text='Values for this message alone.')),
                ('address', models.CharField(blank=True, max_length=254, verbose_name='address')),
                ('language', models.CharField(blank=True, max_length=5, verbose_name='language')),
                ('owner', models.CharField(blank=True, max_length=100)),
                ('lease_until', models.DateTimeField(blank=True, null=True)),
                ('attempt', models.PositiveIntegerField(default=0)),
                ('tries', models.PositiveSmallIntegerField(default=0, verbose_name='tries')),
                ('due_at', models.DateTimeField(verbose_name='due')),
                ('sent_at', models.DateTimeField(blank=True, null=True, verbose_name='sent')),
                ('transport', models.CharField(blank=True, max_length=8, verbose_name='sent by')),
                ('message_id', models.CharField(blank=True, max_length=120, verbose_name='message id')),
                ('error', models.CharField(blank=True, max_length=500, verbose_name='answer of the mail server')),
                ('created_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('consent', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='customers.consent')),
                ('customer', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='messages', to='customers.customer')),
            ],
            options={
                'verbose_name': 'message',
                'verbose_name_plural': 'messages',
                'indexes': [models.Index(condition=models.Q(('state__in', ['claimed', 'sending'])), fields=['lease_until'], name='campaigns_message_leased'), models.Index(fields=['customer', 'id'], name='campaigns_message_customer'), models.Index(condition=models.Q(('state__in', ['failed', 'in_doubt', 'skipped', 'held_out', 'cancelled'])), fields=['state', 'id'], name='campaigns_message_aside')],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('state', 'sent'), _negated=True), ('sent_at__isnull', False), _connector='OR'), name='campaigns_message_sent_has_a_time'), models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['skipped', 'failed', 'in_doubt']), _negated=True), models.Q(('reason', ''), _negated=True), _connector='OR'), name='campaigns_message_says_why')],
            },
        ),
        migrations.CreateModel(
            name='Sender',
            fields=[
                ('owner', models.CharField(max_length=100, primary_key=True, serialize=False)),
                ('boot', models.CharField(blank=True, max_length=40)),
                ('since', models.DateTimeField(default=lifecycle_crm.lib.clock.now)),
            ],
            options={
                'verbose_name': 'sender',
                'verbose_name_plural': 'senders',
            },
        ),
        migrations.CreateModel(
            name='SendingRules',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('approve_above', models.PositiveIntegerField(blank=True, help_text='A send to more people than this waits until somebody other than its author says yes.', null=True, verbose_name='a second person from')),
            ],
            options={
                'verbose_name': 'rules of sending',
                'verbose_name_plural': 'rules of sending',
            },
        ),
        migrations.CreateModel(
            name='Template',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.SlugField(max_length=60, unique=True, verbose_name='key')),
                ('name', models.CharField(max_length=120, verbose_name='name')),
                ('purpose', models.CharField(choices=[('marketing', 'Offers and news'), ('service', 'Service notice'), ('survey', 'Question about an experience')], default='marketing', max_length=12, verbose_name='purpose')),
                ('created_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
            ],
            options={
                'verbose_name': 'template',
                'verbose_name_plural': 'templates',
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='Campaign',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.SlugField(blank=True, max_length=60, null=True, unique=True, verbose_name='key')),
                ('name', models.CharField(max_length=120, verbose_name='name')),
                ('kind', models.CharField(choices=[('broadcast', 'One-off message'), ('reactivation', 'Win-back')], default='broadcast', max_length=14, verbose_name='kind')),
                ('purpose', models.CharField(choices=[('marketing', 'Offers and news'), ('service', 'Service notice'), ('survey', 'Question about an experience')], default='marketing', max_length=12, verbose_name='purpose')),
                ('channel', models.CharField(choices=[('email', 'E-mail')], default='email', max_length=8, verbose_name='channel')),
                ('audience', models.JSONField(blank=True, default=dict, help_text='A condition over the facts; a win-back finds its own.', verbose_name='audience')),
                ('holdout_percent', models.PositiveSmallIntegerField(default=10, help_text='Per cent of the audience that gets nothing, so that the effect shows.', verbose_name='holdout')),
                ('state', models.CharField(choices=[('draft', 'Draft'), ('active', 'Active'), ('paused', 'Paused'), ('ended', 'Ended')], default='draft', max_length=8, verbose_name='state')),
                ('cap_per_day', models.PositiveSmallIntegerField(default=1, help_text='Not sent to somebody who had so many offers on their day.', verbose_name='messages a day')),
                ('cap_per_week', models.PositiveSmallIntegerField(default=3, verbose_name='messages in seven days')),
                ('quiet_from', models.PositiveSmallIntegerField(default=21, help_text='Hour where they live.', verbose_name='quiet from')),
                ('quiet_until', models.PositiveSmallIntegerField(default=8, verbose_name='quiet until')),
                ('calm_days', models.PositiveSmallIntegerField(default=2, help_text='Who just bought is left in peace for so many days; then the message goes out by itself.', verbose_name='days without offers after a purchase')),
                ('credit_days', models.PositiveSmallIntegerField(default=7, help_text='Counted from the hour the message was sent.', verbose_name='days in which an order is credited')),
                ('alarm', models.JSONField(blank=True, default=dict, editable=False, help_text='What the circuit breaker saw, in numbers.')),
                ('fresh_from', models.DateTimeField(blank=True, editable=False, help_text='The breaker counts from here: a person looked and went on.', null=True)),
                ('created_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('template', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='campaigns', to='campaigns.template')),
            ],
            options={
                'verbose_name': 'campaign',
                'verbose_name_plural': 'campaigns',
                'ordering': ['-id'],
                'constraints': [models.CheckConstraint(condition=models.Q(('holdout_percent__lte', 90)), name='campaigns_holdout_leaves_somebody'), models.CheckConstraint(condition=models.Q(('cap_per_day__gte', 1), ('cap_per_week__gte', 1)), name='campaigns_caps_allow_one'), models.CheckConstraint(condition=models.Q(('quiet_from__lte', 23), ('quiet_until__lte', 23)), name='campaigns_quiet_hours_are_hours')],
            },
        ),
        migrations.CreateModel(
            name='Link',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.CharField(max_length=64)),
                ('url', models.TextField(verbose_name='address')),
                ('campaign', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='links', to='campaigns.campaign')),
            ],
            options={
                'verbose_name': 'link',
                'verbose_name_plural': 'links',
                'constraints': [models.UniqueConstraint(fields=('campaign', 'digest'), name='campaigns_link_once')],
            },
        ),
        migrations.CreateModel(
            name='Rendering',
            fields=[
                ('message', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='rendering', serialize=False, to='campaigns.message')),
                ('subject', models.CharField(max_length=400, verbose_name='subject')),
                ('html', models.TextField()),
                ('text', models.TextField()),
                ('links', models.PositiveSmallIntegerField(default=0, verbose_name='tracked links')),
            ],
            options={
                'verbose_name': 'rendered message',
                'verbose_name_plural': 'rendered messages',
            },
        ),
        migrations.CreateModel(
            name='DeliveryEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('delivered', 'Delivered'), ('hard_bounce', 'Address cannot receive'), ('soft_bounce', 'Could not be delivered for now'), ('complaint', 'Marked as spam'), ('unsubscribed', 'Unsubscribed at the provider')], max_length=12, verbose_name='what')),
                ('occurred_at', models.DateTimeField(verbose_name='happened')),
                ('source', models.CharField(max_length=30, verbose_name='told by')),
                ('source_id', models.CharField(max_length=200, verbose_name='number at the source')),
                ('diagnostic', models.CharField(blank=True, max_length=500, verbose_name='what was said')),
                ('received_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('message', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='events', to='campaigns.message')),
            ],
            options={
                'verbose_name': 'delivery notice',
                'verbose_name_plural': 'delivery notices',
                'ordering': ['-id'],
                'indexes': [models.Index(condition=models.Q(('kind__in', ['hard_bounce', 'complaint'])), fields=['occurred_at'], name='campaigns_event_alarming')],
                'constraints': [models.UniqueConstraint(fields=('source', 'source_id'), name='campaigns_event_once_per_source')],
            },
        ),
        migrations.CreateModel(
            name='Run',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=80, verbose_name='key')),
                ('state', models.CharField(choices=[('planned', 'Planned'), ('needs_confirmation', 'Waits for your word'), ('sending', 'Sending'), ('paused', 'Paused'), ('finished', 'Finished'), ('cancelled', 'Cancelled')], default='planned', max_length=20, verbose_name='state')),
                ('as_of', models.DateTimeField(help_text='The instant the audience was decided for.', verbose_name='as of')),
                ('audience', models.PositiveBigIntegerField(default=0, verbose_name='audience')),
                ('variants', models.JSONField(default=dict, help_text='Language to text, as they were when planned: a later edit does not reach this run.')),
                ('guard', models.JSONField(blank=True, default=dict, help_text='Why this run waits for a person, in numbers.')),
                ('created_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('campaign', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='campaigns.campaign')),
                ('confirmed_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'run',
                'verbose_name_plural': 'runs',
                'ordering': ['-id'],
                'indexes': [models.Index(condition=models.Q(('state', 'sending')), fields=['id'], name='campaigns_run_sending')],
                'constraints': [models.UniqueConstraint(fields=('campaign', 'key'), name='campaigns_run_once_per_key')],
            },
        ),
        migrations.AddField(
            model_name='message',
            name='run',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='messages', to='campaigns.run'),
        ),
        migrations.CreateModel(
            name='Slot',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('customer_id', models.BigIntegerField()),
                ('day', models.DateField(help_text='Calendar day where the customer lives.')),
                ('number', models.PositiveSmallIntegerField()),
                ('occurred_at', models.DateTimeField()),
                ('message', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='slot', to='campaigns.message')),
            ],
            options={
                'verbose_name': 'used place of a day',
                'verbose_name_plural': 'used places of a day',
                'constraints': [models.UniqueConstraint(fields=('customer_id', 'day', 'number'), name='campaigns_slot_once')],
            },
        ),
        migrations.CreateModel(
            name='Suppression',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('email_key', models.CharField(max_length=254, verbose_name='address')),
                ('reason', models.CharField(choices=[('unsubscribed', 'Unsubscribed'), ('bounced', 'Cannot receive'), ('complained', 'Marked as spam'), ('manual', 'By hand')], max_length=12, verbose_name='reason')),
                ('diagnostic', models.CharField(blank=True, max_length=500, verbose_name='what was said')),
                ('created_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now)),
            ],
            options={
                'verbose_name': 'address on the stop list',
                'verbose_name_plural': 'stop list',
                'ordering': ['-id'],
                'constraints': [models.UniqueConstraint(fields=('email_key', 'reason'), name='campaigns_suppression_once_per_reason')],
            },
        ),
        migrations.CreateModel(
            name='TemplateVariant',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('language', models.CharField(choices=[('en', 'English'), ('sv', 'Svenska'), ('nb', 'Norsk bokmål'), ('pl', 'Polski'), ('cs', 'Čeština')], max_length=5, verbose_name='language')),
                ('version', models.PositiveIntegerField(default=1, verbose_name='version')),
                ('subject', models.CharField(max_length=200, verbose_name='subject')),
                ('blocks', models.JSONField(verbose_name='blocks')),
                ('created_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('template', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='variants', to='campaigns.template')),
            ],
            options={
                'verbose_name': 'template text',
                'verbose_name_plural': 'template texts',
                'ordering': ['template', 'language', '-version'],
                'constraints': [models.UniqueConstraint(fields=('template', 'language', 'version'), name='campaigns_variant_once_per_version')],
            },
        ),
        migrations.CreateModel(
            name='Throttle',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=60, unique=True, verbose_name='provider')),
                ('domains', models.JSONField(default=list, help_text='A list such as ["gmail.com", "googlemail.com"]. "*" is everybody else.', verbose_name='domains')),
                ('per_minute', models.PositiveIntegerField(verbose_name='messages a minute')),
                ('minute', models.DateTimeField(blank=True, editable=False, null=True)),
                ('used', models.PositiveIntegerField(default=0, editable=False)),
                ('booked_until', models.DateTimeField(blank=True, editable=False, null=True)),
            ],
            options={
                'verbose_name': 'speed limit',
                'verbose_name_plural': 'speed limits',
                'ordering': ['name'],
                'constraints': [models.CheckConstraint(condition=models.Q(('per_minute__gte', 1)), name='campaigns_throttle_lets_one_through')],
            },
        ),
        migrations.CreateModel(
            name='Visit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('occurred_at', models.DateTimeField(verbose_name='when')),
                ('kind', models.CharField(blank=True, choices=[('', 'Not judged yet'), ('human', 'Human'), ('machine', 'Machine'), ('unknown', 'Unknown')], max_length=7, verbose_name='who')),
                ('why', models.CharField(blank=True, max_length=60, verbose_name='why we think so')),
                ('method', models.CharField(max_length=8)),
                ('agent', models.CharField(blank=True, max_length=200, verbose_name='program')),
                ('origin', models.CharField(blank=True, help_text='Stands for where it came from; says not where.', max_length=16)),
                ('has_language', models.BooleanField(default=False, help_text='It said which languages it reads, as browsers do.')),
                ('link', models.ForeignKey(blank=True, help_text='Empty: an open.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='visits', to='campaigns.link')),
                ('message', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='visits', to='campaigns.message')),
            ],
            options={
                'verbose_name': 'visit',
                'verbose_name_plural': 'visits',
                'ordering': ['-id'],
                'indexes': [models.Index(fields=['message', 'occurred_at'], name='campaigns_visit_message'), models.Index(condition=models.Q(('kind', '')), fields=['occurred_at'], name='campaigns_visit_waiting'), models.Index(fields=['origin', 'occurred_at'], name='campaigns_visit_origin')],
            },
        ),
        migrations.CreateModel(
            name='Hold',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('reason', models.CharField(max_length=300, verbose_name='reason')),
                ('since', models.DateTimeField(default=lifecycle_crm.lib.clock.now, verbose_name='since')),
                ('lifted_at', models.DateTimeField(blank=True, null=True, verbose_name='lifted')),
                ('lifted_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'stop of all sending',
                'verbose_name_plural': 'stops of all sending',
                'ordering': ['-id'],
                'indexes': [models.Index(condition=models.Q(('lifted_at', None)), fields=['id'], name='campaigns_hold_open')],
            },
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('state__in', ['queued', 'retry'])), fields=['run', 'due_at', 'id'], name='campaigns_message_due'),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(fields=['run', 'state'], name='campaigns_message_run_state'),
        ),
        migrations.AddConstraint(
            model_name='message',
            constraint=models.UniqueConstraint(fields=('run', 'customer', 'channel'), name='campaigns_message_once_per_run_customer_channel'),
        ),
        migrations.RunPython(texts.install, texts.remove),
        migrations.RunPython(sender.do_not_log, migrations.RunPython.noop),
    ]
