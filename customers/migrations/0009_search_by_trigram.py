import logging

from django.db import DatabaseError, migrations, transaction

logger = logging.getLogger(__name__)
NAME = "customers_customer_search"


def index(apps, schema_editor):
    """A word anywhere in a name is found without reading everybody, where PostgreSQL has pg_trgm and lets us use it.

    It comes with PostgreSQL and needs no superuser, but a distribution may leave it out; then searching reads them all.
    """
    connection = schema_editor.connection
    if connection.vendor != "postgresql":
        return
    try:
        with transaction.atomic(using=connection.alias):
            schema_editor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except DatabaseError as problem:
        logger.warning("Searching customers will be slow with very many of them: pg_trgm cannot be used (%s).", problem)
        return
    schema_editor.execute(f"CREATE INDEX {NAME} ON customers_customer USING gin (search_text gin_trgm_ops)")


def drop(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP INDEX IF EXISTS {NAME}")


class Migration(migrations.Migration):

    dependencies = [
        ("customers", "0008_refund_knows_what_it_took"),
    ]

    operations = [migrations.RunPython(index, drop)]
