"""Tables that only grow: a trigger refuses UPDATE and DELETE, on SQLite and on PostgreSQL.

Used from a migration::

    operations = [AppendOnly("loyalty_entry")]

The product never needs to lift it. A test database is flushed by TRUNCATE or by dropping it, which no row trigger sees.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState


class AppendOnly(Operation):
    """Migration operation: from here on ``table`` refuses DELETE, and UPDATE of the columns in ``fixed``.

    ``fixed`` empty means every column. Name columns when a row also carries bookkeeping that is no fact (``reacted_at``).
    A trigger of PostgreSQL that rewrites the table (TRUNCATE by a test run) is not stopped.
    """

    reversible = True

    def __init__(self, table: str, fixed: tuple[str, ...] = ()) -> None:
        self.table = table
        self.fixed = fixed

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return (self.__class__.__name__, [self.table, self.fixed], {})

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        pass

    def describe(self) -> str:
        return f"Refuse UPDATE and DELETE on {self.table}"

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        message = f"{self.table} is append-only: write a new row instead"
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(
                f"""CREATE OR REPLACE FUNCTION {self.table}_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation'; END $$"""
            )
            when = ""
            if self.fixed:
                old = ", ".join(f"OLD.{c}" for c in self.fixed)
                new = ", ".join(f"NEW.{c}" for c in self.fixed)
                when = f"WHEN (({old}) IS DISTINCT FROM ({new}))"
            schema_editor.execute(
                f"CREATE TRIGGER {self.table}_no_update BEFORE UPDATE ON {self.table} FOR EACH ROW {when} "
                f"EXECUTE FUNCTION {self.table}_refuse()"
            )
            schema_editor.execute(
                f"CREATE TRIGGER {self.table}_no_delete BEFORE DELETE ON {self.table} FOR EACH ROW "
                f"EXECUTE FUNCTION {self.table}_refuse()"
            )
        else:
            when = ""
            if self.fixed:
                changed = " OR ".join(f"OLD.{c} IS NOT NEW.{c}" for c in self.fixed)
                when = f"WHEN {changed}"
            schema_editor.execute(
                f"CREATE TRIGGER {self.table}_no_update BEFORE UPDATE ON {self.table} {when} "
                f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
            )
            schema_editor.execute(
                f"CREATE TRIGGER {self.table}_no_delete BEFORE DELETE ON {self.table} "
                f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
            )

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        for verb in ("update", "delete"):
            if schema_editor.connection.vendor == "postgresql":
                schema_editor.execute(f"DROP TRIGGER IF EXISTS {self.table}_no_{verb} ON {self.table}")
            else:
                schema_editor.execute(f"DROP TRIGGER IF EXISTS {self.table}_no_{verb}")
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(f"DROP FUNCTION IF EXISTS {self.table}_refuse()")


class StaysAppendOnly(AppendOnly):
    """Migration operation after one that changes a constraint: SQLite rebuilds the table for that and loses its triggers."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        super().database_backwards(app_label, schema_editor, from_state, to_state)
        super().database_forwards(app_label, schema_editor, from_state, to_state)

    database_backwards = database_forwards
