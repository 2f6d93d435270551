"""DuckDB behind fakesnow: databases in files of one folder, which a restart finds again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakesnow.transforms as fakesnow_transforms
from fakesnow.instance import FakeSnow
from sqlglot import exp

from snowmelt.local.snowflake.catalog import HISTORY, Catalog

_NO_OPERATION = (r"\s*alter\s+warehouse", r"\s*use\s+(secondary|role|warehouse)")


class Engine:
    """One account's databases."""

    def __init__(self, directory: Path, *, memory_limit: str = "2GB") -> None:
        _mend_fakesnow()
        self._databases = directory / "databases"
        self._databases.mkdir(parents=True, exist_ok=True)
        self._fakesnow = FakeSnow(
            create_database_on_connect=True,
            create_schema_on_connect=False,
            db_path=self._databases,
            nop_regexes=list(_NO_OPERATION),
        )
        root = self._fakesnow.duck_conn
        settings = {
            "memory_limit": memory_limit,
            "temp_directory": str(directory / "spill"),
            "python_enable_replacements": "false",
        }
        for name, value in settings.items():
            root.execute(f"set global {name} = '{value}'")
        for file in sorted(self._databases.glob("*.db")):
            self._fakesnow.connect(file.stem).close()
        self._fakesnow.create_database_on_connect = False  # Snowflake makes none for who signs in
        root.execute(f"attach '{directory / 'history.db'}' as {HISTORY}")
        self.catalog = Catalog(root.cursor())

    def connect(self, database: str | None, schema: str | None, *, autocommit: bool = True) -> Any:
        """A connection of its own, with a current database and schema if they are there."""
        return self._fakesnow.connect(database, schema, autocommit=autocommit)

    def create_schema(self, database: str, schema: str) -> None:
        """Make the database and the schema unless they are there."""
        connection = self.connect(None, None)
        try:
            cursor = connection.cursor()
            if not self.has_database(database):
                cursor.execute(f'create database "{database.upper()}"')
            connection._duck_conn.execute(f'create schema if not exists "{database.upper()}"."{schema.upper()}"')
        finally:
            connection.close()

    def has_database(self, database: str) -> bool:
        """Whether there is a database of that name."""
        return (self._databases / f"{database.upper()}.db").exists()

    def close(self) -> None:
        """Write everything to the files and let go of them."""
        self._fakesnow.duck_conn.close()


def _mend_fakesnow() -> None:
    if fakesnow_transforms.numeric_agg_implicit_cast is _unchanged:
        return
    fakesnow_transforms.numeric_agg_implicit_cast = _unchanged  # sums would go through double
    fakesnow_transforms.integer_precision = _integers_to_bigint
    fakesnow_transforms.to_timestamp = _casts_stay_casts(fakesnow_transforms.to_timestamp)


def _unchanged(expression: Any) -> Any:
    return expression


def _casts_stay_casts(to_timestamp: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Casts to a timestamp without fakesnow's macro, which is only there with a current database."""

    def transform(expression: Any) -> Any:
        return expression if isinstance(expression, exp.Cast) else to_timestamp(expression)

    return transform


def _integers_to_bigint(expression: Any) -> Any:
    """INT as BIGINT; NUMBER(38,0), unlike in fakesnow, keeps its 38 digits."""
    small = (exp.DataType.Type.INT, exp.DataType.Type.SMALLINT, exp.DataType.Type.TINYINT)
    if isinstance(expression, exp.DataType) and expression.this in small:
        return exp.DataType(this=exp.DataType.Type.BIGINT, nested=False, prefix=False)
    return expression
