# ruff: noqa: S608 - the one statement that is put together here consists of constants
"""DuckDB behind fakesnow: databases in files of one folder, which a restart finds again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakesnow.transforms as fakesnow_transforms
from fakesnow import info_schema
from fakesnow.instance import FakeSnow
from sqlglot import exp

from snowmelt_sandbox.snowflake.catalog import HISTORY, Catalog

# what fakesnow's INFORMATION_SCHEMA.COLUMNS says, with the declared types in it
_DECLARED_COLUMNS = (
    info_schema.SQL_CREATE_GLOBAL_INFORMATION_SCHEMA_COLUMNS_VIEW.replace("_fs_columns AS", "_stored_columns AS", 1)
    + f"""
; create or replace view _fs_global._fs_information_schema._fs_columns as
with declared as (
    select database_name, schema_name, table_name, column_name, json(declared) as t
    from {HISTORY}.main.column_types
)
select stored.* replace (
    case declared.t->>'kind' when 'fixed' then 'NUMBER' when 'real' then 'FLOAT'
        else coalesce(upper(declared.t->>'kind'), stored.DATA_TYPE) end as DATA_TYPE,
    coalesce((declared.t->>'length')::integer, stored.CHARACTER_MAXIMUM_LENGTH) as CHARACTER_MAXIMUM_LENGTH
)
from _fs_global._fs_information_schema._stored_columns stored
left join declared
  on lower(declared.database_name) = lower(stored.TABLE_CATALOG)
 and lower(declared.schema_name) = lower(stored.TABLE_SCHEMA)
 and lower(declared.table_name) = lower(stored.TABLE_NAME)
 and declared.column_name = stored.COLUMN_NAME
"""
)


_SIXTEEN_DIGITS = rf"""
create or replace macro {HISTORY}.main.sixteen_digits(j) as
case when regexp_matches(j, '[0-9][0-9.]{{16}}') then array_to_string(list_transform(
    regexp_extract_all(j, '"(?:[^"\\]|\\.)*"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|[^"0-9-]+'),
    lambda part: case
        when part[1] <> '"' and regexp_matches(part, '[.eE]') and try_cast(part as double) is not null
         and length(regexp_replace(regexp_replace(part, '[eE].*', ''), '^-?0?\.?0*|[.]', '', 'g')) > 16
        then format('{{:.16g}}', cast(part as double)) else part end
), '') else j end
"""
"""JSON whose floating-point numbers have 16 significant digits, as Snowflake writes those in a VARIANT
(github.com/estuary/connectors/pull/5223). Stricter than Snowflake with decimals of more digits, which a VARIANT keeps
whole: once in JSON, nothing tells them from floats."""


class Engine:
    """One account's databases."""

    def __init__(self, directory: Path, *, memory_limit: str = "2GB") -> None:
        _patch_fakesnow()
        self._databases = directory / "databases"
        self._databases.mkdir(parents=True, exist_ok=True)
        self._fakesnow = FakeSnow(
            create_database_on_connect=True,
            create_schema_on_connect=False,
            db_path=self._databases,
        )
        root = self._fakesnow.duck_conn
        settings = {
            "memory_limit": memory_limit,
            "temp_directory": str(directory / "spill"),
            "python_enable_replacements": "false",
            "max_expression_depth": "100000",  # a row's text of 1,600 columns is a chain of as many operators
        }
        for name, value in settings.items():
            root.execute(f"set global {name} = '{value}'")
        for file in sorted(self._databases.glob("*.db")):
            self._fakesnow.connect(file.stem).close()
        self._fakesnow.create_database_on_connect = False  # Snowflake makes none for who signs in
        root.execute(f"attach '{directory / 'history.db'}' as {HISTORY}")
        self.catalog = Catalog(root.cursor())
        root.execute(_DECLARED_COLUMNS)
        root.execute(_SIXTEEN_DIGITS)
        # From here on no statement of a client reads or writes files, but for the databases themselves.
        root.execute(f"set global allowed_directories = ['{self._databases}/']")
        root.execute("set global enable_external_access = false")

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


def _patch_fakesnow() -> None:
    """Put our own in place of the steps of its translation that change values or types."""
    transforms: Any = fakesnow_transforms
    if transforms.numeric_agg_implicit_cast is _unchanged:
        return
    transforms.numeric_agg_implicit_cast = _unchanged  # sums would go through double
    transforms.integer_precision = _integers_to_bigint
    transforms.to_timestamp = _casts_stay_casts(transforms.to_timestamp)
    transforms.trim_cast_varchar = _trim_casts  # forgets which characters are trimmed, and where


def _unchanged(expression: Any) -> Any:
    return expression


def _trim_casts(expression: Any) -> Any:
    """What is trimmed is text, whatever it was."""
    if not isinstance(expression, exp.Trim) or isinstance(expression.this, exp.Cast):
        return expression
    expression.set("this", exp.cast(expression.this.copy(), "VARCHAR"))
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
