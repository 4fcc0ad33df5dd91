"""What the ground changes about Django when it starts."""

from django.apps import AppConfig
from django.db.backends.base.operations import BaseDatabaseOperations

# "operations" imports "base", which imports it back: only from here does the import work in any order.
from django.db.backends.sqlite3.base import DatabaseOperations as SqliteOperations  # type: ignore[attr-defined]


class GroundConfig(AppConfig):
    name = "lifecycle_crm.lib"
    label = "ground"
    verbose_name = "Ground"

    def ready(self) -> None:
        # SQLite would take any number into any column. A shop that moves to PostgreSQL must not find that its numbers do
        # not fit there, and the API's description must not depend on the database: both refuse the same.
        SqliteOperations.integer_field_range = BaseDatabaseOperations.integer_field_range  # type: ignore[method-assign]
