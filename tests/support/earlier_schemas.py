"""The status schema as earlier versions of it were, with what is in the present one: for tests of the upgrade."""

from pathlib import Path

from psycopg2 import sql

from snowmelt_sandbox.postgres import Database

FOLDER = Path(__file__).parents[1] / "fixtures" / "status_schemas"
VERSIONS = sorted(int(file.stem.removeprefix("version_")) for file in FOLDER.glob("version_*.sql"))
"""Every version that an installation may have, and that is not the present one."""

_NAMES_BEFORE_7 = {"runs": "migration_runs", "run_tables": "migration_table_status", "chunks": "migration_chunk_status"}
_PARENTS_FIRST = (
    "runs",
    "run_executions",
    "run_tables",
    "chunks",
    "verification_results",
    "saved_indexes",
    "watermarks",
    "rejected_rows",
)
_IN_BOTH = """
    SELECT array_agg(t.attname::text ORDER BY t.attnum)
    FROM pg_attribute t JOIN pg_attribute k ON k.attname = t.attname AND k.attrelid = %s::regclass
    WHERE t.attrelid = %s::regclass AND t.attnum > 0 AND NOT t.attisdropped AND t.attgenerated = ''
"""


def go_back_to(database: Database, version: int) -> None:
    """Put the schema of that version, with the rows that are there, in the place of the present one."""
    database.execute("DROP SCHEMA IF EXISTS kept CASCADE; CREATE SCHEMA kept")
    for name in _PARENTS_FIRST:
        copied = sql.SQL("CREATE TABLE kept.{0} AS TABLE migration_status.{0}")
        database.execute(copied.format(sql.Identifier(name)))
    database.execute("DROP SCHEMA migration_status CASCADE")
    database.execute((FOLDER / f"version_{version}.sql").read_text(encoding="utf-8"))
    for name in _PARENTS_FIRST:
        before = _NAMES_BEFORE_7.get(name, name) if version < 7 else name
        ((columns,),) = database.rows(_IN_BOTH, (f"kept.{name}", f"migration_status.{before}"))
        copied = sql.SQL("INSERT INTO migration_status.{} ({c}) OVERRIDING SYSTEM VALUE SELECT {c} FROM kept.{}")
        listed = sql.SQL(", ").join(map(sql.Identifier, columns))
        database.execute(copied.format(sql.Identifier(before), sql.Identifier(name), c=listed))
    database.execute(
        "SELECT setval(pg_get_serial_sequence('migration_status.saved_indexes', 'saved_id'), 1000);"
        "DROP SCHEMA kept CASCADE"
    )
