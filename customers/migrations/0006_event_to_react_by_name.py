from django.db import migrations, models


class Migration(migrations.Migration):
    """Of events only some names are ever drained, so the index begins with the name."""

    dependencies = [
        ('customers', '0005_steady_segments'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='event',
            name='customers_event_to_react',
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(condition=models.Q(('reacted_at', None)), fields=['name', 'occurred_at', 'id'], name='customers_event_to_react'),
        ),
    ]
