"""The steps 0001_initial to 0009_search_by_trigram in one, for a database that begins here: it takes half of their time.

A database that has taken the steps counts as having taken this. Whoever stopped in between goes on with them, so they
stay until a release that nobody comes from before.
"""

from importlib import import_module

import django.db.models.deletion
import lifecycle_crm.lib.clock
import lifecycle_crm.lib.moments
from decimal import Decimal
from django.conf import settings
from django.db import migrations, models
from lifecycle_crm.lib.appendonly import AppendOnly

room = import_module("customers.migrations.0007_facts_stay_in_their_page")
search = import_module("customers.migrations.0009_search_by_trigram")


class Migration(migrations.Migration):

    initial = True
    replaces = [
        ("customers", "0001_initial"),
        ("customers", "0002_consent_append_only"),
        ("customers", "0003_rfm_history"),
        ("customers", "0004_segments"),
        ("customers", "0005_steady_segments"),
        ("customers", "0006_event_to_react_by_name"),
        ("customers", "0007_facts_stay_in_their_page"),
        ("customers", "0008_refund_knows_what_it_took"),
        ("customers", "0009_search_by_trigram"),
    ]

    dependencies = [
        ('accounts', '__first__'),
    ]

    operations = [
        migrations.CreateModel(
            name='Customer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('person', 'Person'), ('company', 'Company')], default='person', max_length=8, verbose_name='kind')),
                ('name', models.CharField(blank=True, max_length=200, verbose_name='name')),
                ('given_name', models.CharField(blank=True, max_length=100, verbose_name='given name')),
                ('email', models.EmailField(blank=True, max_length=254, verbose_name='e-mail')),
                ('email_key', models.CharField(blank=True, editable=False, max_length=254, null=True, unique=True)),
                ('phone', models.CharField(blank=True, help_text='E.164, such as +46701234567.', max_length=20, verbose_name='phone')),
                ('language', models.CharField(blank=True, max_length=5, verbose_name='language')),
                ('time_zone', models.CharField(blank=True, max_length=40, verbose_name='time zone')),
                ('country', models.CharField(blank=True, max_length=2, verbose_name='country')),
                ('city', models.CharField(blank=True, max_length=100, verbose_name='city')),
                ('birth_date', models.DateField(blank=True, null=True, verbose_name='birth date')),
                ('tags', models.JSONField(blank=True, default=list, verbose_name='tags')),
                ('attributes', models.JSONField(blank=True, default=dict, verbose_name='attributes')),
                ('acquisition_source', models.CharField(blank=True, max_length=80, verbose_name='source')),
                ('acquisition_medium', models.CharField(blank=True, max_length=80, verbose_name='medium')),
                ('acquisition_campaign', models.CharField(blank=True, max_length=80, verbose_name='campaign')),
                ('acquisition_cost_minor', models.BigIntegerField(blank=True, null=True, verbose_name='acquisition cost')),
                ('is_invented', models.BooleanField(default=False, help_text='Name and address were made for the sample shop.')),
                ('known_since', models.DateTimeField(default=lifecycle_crm.lib.clock.now, help_text='When the relation began; may be long before it was loaded.', verbose_name='known since')),
                ('loaded_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, help_text='What happened before this moment is history and starts no message.', verbose_name='loaded')),
                ('search_text', models.CharField(blank=True, editable=False, max_length=600)),
                ('owner', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='customers', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'customer',
                'verbose_name_plural': 'customers',
                'indexes': [models.Index(fields=['name', 'id'], name='customers_customer_name'), models.Index(fields=['country', 'id'], name='customers_customer_country')],
            },
        ),
        migrations.CreateModel(
            name='Product',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sku', models.CharField(max_length=80, unique=True, verbose_name='SKU')),
                ('name', models.CharField(max_length=200, verbose_name='name')),
                ('category', models.CharField(blank=True, db_index=True, max_length=100, verbose_name='category')),
            ],
            options={
                'verbose_name': 'product',
                'verbose_name_plural': 'products',
            },
        ),
        migrations.CreateModel(
            name='RfmCuts',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('computed_on', models.DateField(unique=True)),
                ('recency_days', models.JSONField()),
                ('frequency', models.JSONField()),
                ('monetary_minor', models.JSONField()),
                ('buyers', models.PositiveIntegerField(help_text='How many buyers the cuts were taken from.')),
            ],
            options={
                'verbose_name': 'RFM cut points',
                'verbose_name_plural': 'RFM cut points',
                'ordering': ['-computed_on'],
            },
        ),
        migrations.CreateModel(
            name='Consent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('purpose', models.CharField(choices=[('marketing', 'Offers and news'), ('survey', 'Questions about your experience')], max_length=12, verbose_name='purpose')),
                ('channel', models.CharField(choices=[('email', 'E-mail'), ('sms', 'SMS')], max_length=8, verbose_name='channel')),
                ('is_granted', models.BooleanField(verbose_name='granted')),
                ('wording', models.CharField(blank=True, max_length=40, verbose_name='wording version')),
                ('source', models.CharField(max_length=40, verbose_name='source')),
                ('ip', models.GenericIPAddressField(blank=True, null=True)),
                ('language', models.CharField(blank=True, max_length=5, verbose_name='language')),
                ('occurred_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, verbose_name='given')),
                ('recorded_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('customer', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='consents', to='customers.customer')),
            ],
            options={
                'verbose_name': 'consent',
                'verbose_name_plural': 'consents',
                'indexes': [models.Index(fields=['customer', 'purpose', 'channel', 'occurred_at'], name='customers_consent_last')],
            },
        ),
        migrations.CreateModel(
            name='DirtyCustomer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('customer_id', models.BigIntegerField()),
                ('occurred_at', lifecycle_crm.lib.moments.MomentField()),
                ('is_history', models.BooleanField(default=False)),
            ],
            options={
                'verbose_name': 'customer to refresh',
                'verbose_name_plural': 'customers to refresh',
                'indexes': [models.Index(fields=['occurred_at', 'customer_id'], name='customers_dirty_when')],
            },
        ),
        migrations.CreateModel(
            name='Event',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=80, verbose_name='name')),
                ('occurred_at', models.DateTimeField(verbose_name='happened')),
                ('received_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('source', models.CharField(max_length=40, verbose_name='source')),
                ('source_id', models.CharField(max_length=120, verbose_name='id at the source')),
                ('properties', models.JSONField(blank=True, default=dict, verbose_name='properties')),
                ('is_history', models.BooleanField(default=False)),
                ('reacted_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('customer', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='events', to='customers.customer')),
            ],
            options={
                'verbose_name': 'event',
                'verbose_name_plural': 'events',
                'indexes': [models.Index(fields=['customer', 'name', 'occurred_at'], name='customers_event_facts'), models.Index(condition=models.Q(('reacted_at', None)), fields=['name', 'occurred_at', 'id'], name='customers_event_to_react')],
                'constraints': [models.UniqueConstraint(fields=('source', 'source_id'), name='customers_event_once_per_source')],
            },
        ),
        migrations.CreateModel(
            name='ExternalId',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('source', models.CharField(max_length=40)),
                ('value', models.CharField(max_length=200)),
                ('customer', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='external_ids', to='customers.customer')),
            ],
            options={
                'verbose_name': 'external id',
                'verbose_name_plural': 'external ids',
                'constraints': [models.UniqueConstraint(fields=('source', 'value'), name='customers_external_id_once_per_source')],
            },
        ),
        migrations.CreateModel(
            name='ImportRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('customers', 'Customers'), ('orders', 'Orders')], max_length=12, verbose_name='kind')),
                ('file_name', models.CharField(max_length=200, verbose_name='file')),
                ('path', models.CharField(max_length=500)),
                ('source', models.CharField(default='csv', max_length=40, verbose_name='source')),
                ('mapping', models.JSONField(blank=True, default=dict, verbose_name='columns')),
                ('options', models.JSONField(blank=True, default=dict, verbose_name='options')),
                ('is_dry_run', models.BooleanField(default=True, verbose_name='dry run')),
                ('state', models.CharField(choices=[('uploaded', 'Uploaded'), ('queued', 'Waiting for a worker'), ('running', 'Running'), ('done', 'Done'), ('failed', 'Failed')], default='uploaded', max_length=10, verbose_name='state')),
                ('next_line', models.PositiveBigIntegerField(default=0, help_text='Where a resumed run goes on.')),
                ('rows', models.PositiveBigIntegerField(default=0, verbose_name='rows')),
                ('created', models.PositiveBigIntegerField(default=0, verbose_name='new')),
                ('updated', models.PositiveBigIntegerField(default=0, verbose_name='updated')),
                ('unchanged', models.PositiveBigIntegerField(default=0, verbose_name='already there')),
                ('refused', models.PositiveBigIntegerField(default=0, verbose_name='refused')),
                ('customers_created', models.PositiveBigIntegerField(default=0, verbose_name='customers made')),
                ('error', models.CharField(blank=True, max_length=500, verbose_name='error')),
                ('lease_owner', models.CharField(blank=True, max_length=100)),
                ('lease_until', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'import',
                'verbose_name_plural': 'imports',
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='ImportRow',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('line', models.PositiveBigIntegerField(verbose_name='line')),
                ('values', models.JSONField(verbose_name='values')),
                ('column', models.CharField(blank=True, max_length=80, verbose_name='column')),
                ('reason', models.CharField(max_length=300, verbose_name='reason')),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='refusals', to='customers.importrun')),
            ],
            options={
                'verbose_name': 'refused line',
                'verbose_name_plural': 'refused lines',
                'ordering': ['run', 'line'],
                'constraints': [models.UniqueConstraint(fields=('run', 'line'), name='customers_import_line_once')],
            },
        ),
        migrations.CreateModel(
            name='Order',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('source', models.CharField(max_length=40, verbose_name='source')),
                ('source_id', models.CharField(max_length=120, verbose_name='number at the source')),
                ('placed_at', models.DateTimeField(verbose_name='placed')),
                ('status', models.CharField(choices=[('placed', 'Placed'), ('cancelled', 'Cancelled')], default='placed', max_length=10, verbose_name='status')),
                ('currency', models.CharField(max_length=3, verbose_name='currency')),
                ('amount_minor', models.BigIntegerField(verbose_name='amount')),
                ('refunded_minor', models.BigIntegerField(default=0, verbose_name='refunded')),
                ('rate', models.DecimalField(decimal_places=8, default=Decimal('1'), max_digits=18, verbose_name='rate to the reporting currency')),
                ('base_minor', models.BigIntegerField(verbose_name='net amount in the reporting currency')),
                ('items', models.PositiveIntegerField(default=0, verbose_name='items')),
                ('is_counted', models.BooleanField(default=True)),
                ('is_history', models.BooleanField(default=False, help_text='Placed before the customer was loaded: earns points, starts no message.')),
                ('received_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('reacted_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('customer', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='orders', to='customers.customer')),
            ],
            options={
                'verbose_name': 'order',
                'verbose_name_plural': 'orders',
                'indexes': [models.Index(condition=models.Q(('is_counted', True)), fields=['customer', 'placed_at', 'base_minor'], name='customers_order_facts'), models.Index(fields=['placed_at'], name='customers_order_placed'), models.Index(condition=models.Q(('reacted_at', None)), fields=['placed_at', 'id'], name='customers_order_to_react')],
                'constraints': [models.UniqueConstraint(fields=('source', 'source_id'), name='customers_order_once_per_source'), models.CheckConstraint(condition=models.Q(('amount_minor__gte', 0)), name='customers_order_amount_not_negative'), models.CheckConstraint(condition=models.Q(('refunded_minor__gte', 0), ('refunded_minor__lte', models.F('amount_minor'))), name='customers_order_refund_within_amount')],
            },
        ),
        migrations.CreateModel(
            name='OrderLine',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('title', models.CharField(max_length=200, verbose_name='title')),
                ('quantity', models.PositiveIntegerField(default=1, verbose_name='quantity')),
                ('unit_minor', models.BigIntegerField(verbose_name='unit price')),
                ('discount_minor', models.BigIntegerField(default=0, verbose_name='discount')),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='lines', to='customers.order')),
                ('product', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='lines', to='customers.product')),
            ],
            options={
                'verbose_name': 'order line',
                'verbose_name_plural': 'order lines',
            },
        ),
        migrations.CreateModel(
            name='Refund',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('source', models.CharField(max_length=40, verbose_name='source')),
                ('source_id', models.CharField(max_length=120, verbose_name='number at the source')),
                ('occurred_at', models.DateTimeField(verbose_name='happened')),
                ('amount_minor', models.BigIntegerField(verbose_name='amount')),
                ('base_minor', models.BigIntegerField(default=0, help_text='What the order lost by it; so the order can be seen as it was before.', verbose_name='taken from the net amount in the reporting currency')),
                ('is_cancellation', models.BooleanField(default=False, verbose_name='cancels the order')),
                ('is_history', models.BooleanField(default=False)),
                ('reacted_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='refunds', to='customers.order')),
            ],
            options={
                'verbose_name': 'refund',
                'verbose_name_plural': 'refunds',
                'indexes': [models.Index(condition=models.Q(('reacted_at', None)), fields=['occurred_at', 'id'], name='customers_refund_react'), models.Index(fields=['occurred_at'], name='customers_refund_occurred')],
                'constraints': [models.UniqueConstraint(fields=('source', 'source_id'), name='customers_refund_once_per_source'), models.CheckConstraint(condition=models.Q(('amount_minor__gte', 0)), name='customers_refund_amount_not_negative')],
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
            name='Segment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.SlugField(max_length=60, unique=True, verbose_name='key')),
                ('name', models.CharField(max_length=120, verbose_name='name')),
                ('kind', models.CharField(choices=[('live', 'Live'), ('static', 'Static list')], default='live', max_length=6, verbose_name='kind')),
                ('condition', models.JSONField(blank=True, default=dict, verbose_name='condition')),
                ('version', models.PositiveIntegerField(default=1, verbose_name='version')),
                ('note', models.CharField(blank=True, max_length=500, verbose_name='note')),
                ('members', models.PositiveIntegerField(blank=True, null=True, verbose_name='people')),
                ('is_exact', models.BooleanField(default=True, verbose_name='counted exactly')),
                ('counted_at', models.DateTimeField(blank=True, null=True, verbose_name='counted')),
                ('archived_at', models.DateTimeField(blank=True, null=True, verbose_name='archived')),
                ('created_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False, verbose_name='made')),
                ('owner', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='segments', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'segment',
                'verbose_name_plural': 'segments',
                'ordering': ['name', 'id'],
            },
        ),
        migrations.CreateModel(
            name='SegmentChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('entered', 'Entered'), ('left', 'Left')], max_length=7, verbose_name='change')),
                ('business_date', models.DateField(verbose_name='business date')),
                ('recorded_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, editable=False)),
                ('customer', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='customers.customer')),
                ('segment', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='changes', to='customers.segment')),
            ],
            options={
                'verbose_name': 'change of a segment',
                'verbose_name_plural': 'changes of segments',
                'ordering': ['-id'],
                'indexes': [models.Index(fields=['segment', 'business_date'], name='customers_segment_change_day'), models.Index(fields=['customer', 'id'], name='customers_segment_change_who')],
            },
        ),
        migrations.CreateModel(
            name='SegmentDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('business_date', models.DateField(verbose_name='business date')),
                ('version', models.PositiveIntegerField(verbose_name='version')),
                ('members', models.PositiveIntegerField(verbose_name='people')),
                ('entered', models.PositiveIntegerField(verbose_name='entered')),
                ('left', models.PositiveIntegerField(verbose_name='left')),
                ('is_first', models.BooleanField(default=False)),
                ('digest', models.CharField(blank=True, help_text='Of the condition with everything it names; while it is the same, only customers whose facts moved are asked again.', max_length=64)),
                ('segment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='days', to='customers.segment')),
            ],
            options={
                'verbose_name': 'day of a segment',
                'verbose_name_plural': 'days of segments',
                'ordering': ['-business_date'],
                'constraints': [models.UniqueConstraint(fields=('segment', 'business_date'), name='customers_segment_day_once'), models.CheckConstraint(condition=models.Q(('members__gte', 0)), name='customers_segment_day_counts')],
            },
        ),
        migrations.CreateModel(
            name='SegmentMember',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('added_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now)),
                ('added_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('customer', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='customers.customer')),
                ('segment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='listed', to='customers.segment')),
            ],
            options={
                'verbose_name': 'person on a list',
                'verbose_name_plural': 'people on lists',
                'constraints': [models.UniqueConstraint(fields=('segment', 'customer'), name='customers_segment_member_once')],
            },
        ),
        migrations.CreateModel(
            name='SegmentStanding',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('customer', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='customers.customer')),
                ('segment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='customers.segment')),
            ],
            options={
                'verbose_name': 'last known member',
                'verbose_name_plural': 'last known members',
                'constraints': [models.UniqueConstraint(fields=('segment', 'customer'), name='customers_segment_standing_once')],
            },
        ),
        migrations.CreateModel(
            name='SegmentVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField(verbose_name='version')),
                ('condition', models.JSONField(default=dict, verbose_name='condition')),
                ('created_at', models.DateTimeField(default=lifecycle_crm.lib.clock.now, verbose_name='in force from')),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('segment', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='versions', to='customers.segment')),
            ],
            options={
                'verbose_name': 'version of a segment',
                'verbose_name_plural': 'versions of segments',
                'ordering': ['segment', '-number'],
                'constraints': [models.UniqueConstraint(fields=('segment', 'number'), name='customers_segment_version_once')],
            },
        ),
        migrations.CreateModel(
            name='CustomerFacts',
            fields=[
                ('customer', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='facts', serialize=False, to='customers.customer')),
                ('orders', models.PositiveIntegerField(default=0, verbose_name='orders')),
                ('first_order_at', lifecycle_crm.lib.moments.MomentField(blank=True, null=True, verbose_name='first order')),
                ('last_order_at', lifecycle_crm.lib.moments.MomentField(blank=True, null=True, verbose_name='last order')),
                ('spend_minor', models.BigIntegerField(default=0, verbose_name='spend')),
                ('gap_seconds', models.BigIntegerField(blank=True, null=True, verbose_name='usual gap between orders')),
                ('engaged_at', lifecycle_crm.lib.moments.MomentField(blank=True, null=True, verbose_name='last visit, click or other sign of life')),
                ('may_email', models.BooleanField(default=False, verbose_name='agreed to offers by e-mail')),
                ('recency', models.PositiveSmallIntegerField(blank=True, null=True, verbose_name='recency score')),
                ('frequency', models.PositiveSmallIntegerField(blank=True, null=True, verbose_name='frequency score')),
                ('monetary', models.PositiveSmallIntegerField(blank=True, null=True, verbose_name='monetary score')),
                ('rfm_group', models.CharField(blank=True, db_default='', help_text='The group that its history was told.', max_length=20, verbose_name='RFM group')),
                ('points', models.BigIntegerField(default=0, verbose_name='points')),
                ('tier', models.CharField(blank=True, max_length=40, verbose_name='tier')),
                ('nps_score', models.PositiveSmallIntegerField(blank=True, null=True, verbose_name='last NPS answer')),
                ('answered_at', lifecycle_crm.lib.moments.MomentField(blank=True, null=True, verbose_name='last answer')),
                ('open_cases', models.PositiveIntegerField(default=0, verbose_name='open cases')),
                ('clicked_at', lifecycle_crm.lib.moments.MomentField(blank=True, null=True, verbose_name='last click in a message')),
                ('stage', models.CharField(blank=True, max_length=12, verbose_name='stage')),
                ('stage_since', lifecycle_crm.lib.moments.MomentField(blank=True, null=True, verbose_name='in this stage since')),
                ('next_review_at', lifecycle_crm.lib.moments.MomentField(blank=True, help_text='From here on the stage may change by time alone.', null=True, verbose_name='next review')),
                ('is_quiet', models.BooleanField(default=True, help_text='The next move follows from loaded history, so it starts no message.')),
            ],
            options={
                'verbose_name': 'facts',
                'verbose_name_plural': 'facts',
                'indexes': [models.Index(fields=['stage', 'customer'], name='customers_facts_stage'), models.Index(fields=['last_order_at', 'customer'], name='customers_facts_last_order'), models.Index(fields=['spend_minor', 'customer'], name='customers_facts_spend')],
            },
        ),
        AppendOnly("customers_consent"),
        AppendOnly("customers_rfmchange"),
        AppendOnly("customers_segmentversion"),
        AppendOnly("customers_segmentchange"),
        migrations.RunPython(room.leave_room, room.fill_up),
        migrations.RunPython(search.index, search.drop),
    ]
