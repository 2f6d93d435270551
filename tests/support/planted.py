"""A pair of schemas in which many different things are wrong, each of them on purpose, and where it is to be found."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from psycopg2 import sql

from support.world import World

LONG = "A_NAME_THAT_IS_LONGER_THAN_SIXTY_THREE_BYTES_AND_SO_IS_CUT_SILENTLY"
"""67 bytes."""
UUID = "00000000-0000-0000-0000-00000000000a"


@dataclass(frozen=True)
class Found:
    """What is to be found: how bad, by which check, and where; the place of a table unless it says another."""

    severity: str
    check: str
    column: str | None = None
    setting: str | None = None


@dataclass(frozen=True)
class Planted:
    """A table with something wrong. ``{t}`` is the target in its DDL; ``{role}`` who loads, and owns it unless told."""

    name: str
    source: str
    """Columns of the source table; nothing for a table that is not there."""
    target: Sequence[str]
    """Columns of the target, then statements after it was made; one without brackets makes it itself."""
    finds: Sequence[Found]
    rows: str = ""
    """A SELECT for the source's rows."""
    settings: dict[str, Any] = field(default_factory=dict)
    owned: bool = True


def error(check: str, column: str | None = None, setting: str | None = None) -> Found:
    return Found("error", check, column, setting)


def warning(check: str, column: str | None = None, setting: str | None = None) -> Found:
    return Found("warning", check, column, setting)


def note(check: str, column: str | None = None) -> Found:
    return Found("note", check, column)


def columns(definition: str) -> tuple[str]:
    """A target of so many columns that they take several lines."""
    return (definition,)


ID = "ID NUMBER(9,0) NOT NULL"
PLAIN = ("(id integer)",)
GRANT_ALL = "GRANT ALL ON {t} TO {role}"
MERGED = {"uniqueness_columns": ["ID"]}

TABLES = [
    # --- the tables themselves ---
    Planted("NO_SOURCE", "", ("CREATE UNLOGGED TABLE {t} (id integer)",), [error("source_table"), error("unlogged")]),
    Planted("NO_TARGET", ID, (), [error("target_missing")]),
    Planted("INTO_VIEW", ID, ("CREATE VIEW {t} AS SELECT 1 AS id",), [error("target_kind")]),
    Planted(
        "NOT_GRANTED",
        ID,
        (*PLAIN, "GRANT SELECT ON {t} TO {role}"),
        [error("target_privileges")],
        owned=False,
    ),
    Planted(
        "NO_UPDATE",
        ID,
        ("(id integer PRIMARY KEY)", "GRANT SELECT, INSERT ON {t} TO {role}", "INSERT INTO {t} VALUES (1)"),
        [error("target_privileges")],
        settings=MERGED,
        owned=False,
    ),
    Planted("FILLED", ID, (*PLAIN, "INSERT INTO {t} VALUES (1)"), [error("target_filled")]),
    Planted(
        "ALL_AT_ONCE",
        f"{ID}, A VARCHAR",
        (
            "CREATE UNLOGGED TABLE {t} (id integer, a integer)",
            "INSERT INTO {t} VALUES (1)",
            "GRANT SELECT ON {t} TO {role}",
        ),
        [
            error("target_privileges"),
            error("target_filled"),
            error("unlogged"),
            error("index_owner"),
            error("column_type", "a"),
            error("setting_unknown", setting="sort_columns"),
        ],
        settings={"disable_index": True, "sort_columns": ["KEY"]},
        owned=False,
    ),
    Planted("UNLOGGED", ID, ("CREATE UNLOGGED TABLE {t} (id integer)",), [error("unlogged")]),
    Planted(
        "ROW_SECURITY",
        ID,
        (*PLAIN, GRANT_ALL, "ALTER TABLE {t} ENABLE ROW LEVEL SECURITY"),
        [error("row_security")],
        owned=False,
    ),
    Planted(
        "RULES",
        f"{ID}, HOST VARCHAR",
        (
            "(id integer, host text[])",
            "ALTER TABLE {t} ALTER host TYPE varbit USING NULL",
            "CREATE RULE nothing AS ON INSERT TO {t} DO INSTEAD NOTHING",
        ),
        [error("rules")],
    ),
    Planted(
        "TRIGGERED",
        ID,
        (*PLAIN, "CREATE TRIGGER each_row BEFORE INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION kept_as_it_is()"),
        [warning("triggers")],
    ),
    Planted(
        "TRUNCATE_TRIGGER",
        ID,
        (*PLAIN, "CREATE TRIGGER emptied AFTER TRUNCATE ON {t} FOR EACH STATEMENT EXECUTE FUNCTION kept_as_it_is()"),
        [warning("triggers")],
        settings={"truncate_onstart": True},
    ),
    Planted("CHECKED", ID, ("(id integer CHECK (id > 0))",), [note("constraints")]),
    Planted("NO_PARTITION", ID, ("(id integer) PARTITION BY RANGE (id)",), [error("partitions")]),
    Planted(
        "ONE_PARTITION",
        ID,
        (
            "CREATE TABLE whole (id integer) PARTITION BY RANGE (id)",
            "CREATE TABLE {t} PARTITION OF whole FOR VALUES FROM (0) TO (10)",
        ),
        [warning("partitions")],
    ),
    Planted(
        "HAS_CHILDREN",
        ID,
        (*PLAIN, "CREATE TABLE heir () INHERITS ({t})"),
        [warning("inheritance")],
        settings={"truncate_onstart": True},
    ),
    Planted(
        "FOREIGN_OWNER",
        ID,
        (*PLAIN, GRANT_ALL),
        [error("index_owner")],
        settings={"disable_index": True},
        owned=False,
    ),
    Planted(
        "PARTITIONED_INDEX",
        ID,
        ("(id integer) PARTITION BY RANGE (id)", "CREATE TABLE all_rows PARTITION OF {t} DEFAULT"),
        [warning("index_partitioned")],
        settings={"disable_index": True},
    ),
    Planted(
        "SEQUENCE",
        ID,
        ("CREATE SEQUENCE numbers", "CREATE TABLE {t} (id integer DEFAULT nextval('numbers'))"),
        [error("sequences")],
    ),
    # --- columns ---
    Planted(
        "COLUMNS_OFF",
        f"{ID}, TEXT_AS_NUMBER VARCHAR, FEWER_DIGITS NUMBER(10,4), FEWER_FRACTIONS TIMESTAMP_NTZ(9),"
        f" OTHER_ZONE TIMESTAMP_NTZ(6), TWO_CASES NUMBER(9,0), NO_CASE NUMBER(9,0), {LONG} NUMBER(9,0),"
        " MISSING VARCHAR, GENERATED NUMBER(9,0), IDENTITY NUMBER(9,0)",
        columns(
            "(id integer, text_as_number integer, fewer_digits numeric(10,2), fewer_fractions timestamp(3),"
            ' other_zone timestamptz, two_cases integer, "TWO_CASES" integer, no_case integer, "No_Case" integer,'
            f" {LONG[:63].lower()} integer, unfed text NOT NULL, extra text,"
            " generated integer GENERATED ALWAYS AS (id + 1) STORED, identity integer GENERATED ALWAYS AS IDENTITY)"
        ),
        [
            error("column_type", "text_as_number"),
            error("column_type", "fewer_digits"),
            error("column_type", "fewer_fractions"),
            warning("column_lossy", "other_zone"),
            note("column_extra", "two_cases"),
            error("column_ambiguous", "no_case"),
            error("column_name_long", LONG[:63].lower()),
            warning("column_missing", "MISSING"),
            error("column_unfed", "unfed"),
            note("column_extra", "extra"),
            warning("column_generated", "generated"),
            warning("column_generated", "identity"),
        ],
    ),
    Planted(
        "ALIKE_NAMES",
        f"{ID}, {LONG}_A NUMBER(9,0), {LONG}_B NUMBER(9,0)",
        PLAIN,
        [error("column_name_long", f"{LONG}_A")],
    ),
    Planted(
        "NARROWER",
        f"{ID}, A VARCHAR(50), B NUMBER(10,2), C VARCHAR",
        ("(id integer, a varchar(20), b numeric(8,2), c text NOT NULL)",),
        [note("too_long", "a"), note("out_of_range", "b"), note("nulls", "c")],
        rows="SELECT 1, 'a', 1.5, 'c'",
    ),
    Planted("NOTHING_COMMON", ID, ("(a integer DEFAULT 1)",), [error("column_none"), warning("column_missing", "ID")]),
    # --- keys and settings ---
    Planted(
        "KEY_UNKNOWN",
        ID,
        PLAIN,
        [error("key_unknown", setting="uniqueness_columns")],
        settings={"uniqueness_columns": ["KEY"]},
    ),
    Planted("KEY_UNDECLARED", ID, PLAIN, [warning("key_undeclared")], settings=MERGED),
    Planted(
        "KEY_UNDECLARED_MERGE", ID, (*PLAIN, "INSERT INTO {t} VALUES (1)"), [error("key_undeclared")], settings=MERGED
    ),
    Planted(
        "KEY_TWICE",
        ID,
        ("(id integer PRIMARY KEY)",),
        [error("key_duplicates", setting="uniqueness_columns")],
        rows="SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 2",
        settings=MERGED,
    ),
    Planted(
        "KEY_TWICE_SKIPPED",
        ID,
        ("(id integer PRIMARY KEY)", "INSERT INTO {t} VALUES (1)"),
        [error("key_duplicates", setting="uniqueness_columns")],
        rows="SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 2",
        settings={**MERGED, "insert_only_mode": True},
    ),
    Planted(
        "KEY_NULL",
        "ID NUMBER(9,0)",
        ("(id integer UNIQUE)",),
        [error("key_nulls", setting="uniqueness_columns")],
        rows="SELECT 1 UNION ALL SELECT NULL",
        settings=MERGED,
    ),
    Planted(
        "UNIQUE_TWICE",
        f"{ID}, CODE VARCHAR",
        ("(id integer PRIMARY KEY, code text UNIQUE)",),
        [error("unique_duplicates", "code")],
        rows="SELECT 1, 'a' UNION ALL SELECT 2, 'a' UNION ALL SELECT 3, NULL UNION ALL SELECT 4, NULL",
    ),
    Planted(
        "NO_CHUNKING_COLUMN",
        ID,
        PLAIN,
        [error("setting_unknown", setting="chunking_columns")],
        settings={"chunking_columns": ["KEY"]},
    ),
    Planted(
        "NO_SORT_COLUMN",
        ID,
        PLAIN,
        [error("setting_unknown", setting="sort_columns")],
        settings={"sort_columns": ["KEY"]},
    ),
    Planted(
        "NO_POLICY_COLUMN",
        ID,
        PLAIN,
        [error("setting_unknown", setting='column_policies["KEY"]')],
        settings={"column_policies": {"KEY": {"too_long": "truncate"}}},
    ),
    Planted(
        "NO_ORDER",
        f"{ID}, A BOOLEAN",
        ("(id integer, a boolean)",),
        [error("chunking_type", setting="chunking_columns")],
        settings={"chunking_columns": ["A"]},
    ),
    Planted(
        "DECLARED_OTHERWISE",
        ID,
        PLAIN,
        [warning("chunking_type", setting="chunking_column_types")],
        settings={"chunking_columns": ["ID"], "chunking_column_types": ["date"]},
    ),
    Planted(
        "NO_WATERMARK",
        ID,
        ("(id integer PRIMARY KEY)",),
        [error("watermark", setting="source_watermark")],
        settings={**MERGED, "source_watermark": "CHANGED_AT"},
    ),
    Planted(
        "WATERMARK_NULL",
        f"{ID}, CHANGED_AT TIMESTAMP_NTZ(6)",
        ("(id integer PRIMARY KEY, changed_at timestamp)",),
        [warning("watermark", setting="source_watermark")],
        rows="SELECT 1, '2026-01-01'::TIMESTAMP_NTZ UNION ALL SELECT 2, NULL",
        settings={**MERGED, "source_watermark": "CHANGED_AT"},
    ),
    Planted(
        "BAD_FILTER",
        ID,
        PLAIN,
        [error("source_filter", setting="source_filter")],
        settings={"source_filter": "NO_SUCH_COLUMN > 1"},
    ),
    # --- values ---
    Planted(
        "VALUES_OFF",
        f"{ID}, HOLE VARCHAR, TOO_LONG VARCHAR, TOO_BIG NUMBER(18,0), DIGITS NUMBER(12,2), FLOATS FLOAT, NUL VARCHAR,"
        " NO_UUID VARCHAR, LABEL VARCHAR, NO_JSON VARCHAR, NANOS TIMESTAMP_NTZ(9)",
        columns(
            "(id integer, hole text NOT NULL, too_long varchar(3), too_big integer, digits numeric(8,2), floats real,"
            " nul text, no_uuid uuid, label mood, no_json json, nanos timestamp)"
        ),
        [
            error("nulls", "hole"),
            error("too_long", "too_long"),
            error("out_of_range", "too_big"),
            error("out_of_range", "digits"),
            error("out_of_range", "floats"),
            warning("column_lossy", "floats"),
            error("nul_characters", "nul"),
            error("unreadable_text", "no_uuid"),
            error("unreadable_text", "label"),
            error("unreadable_text", "no_json"),
        ],
        rows=f"""SELECT 1, 'a', 'abc', 2147483647, 999999.99, 'NaN'::FLOAT, '', '{UUID}', 'it''s sad', '{{"a": 1}}',
                        '2026-01-01 00:00:00.123456'::TIMESTAMP_NTZ
            UNION ALL SELECT 2, NULL, 'abcd', 2147483648, 1000000.00, 1e300::FLOAT, 'a' || CHR(0), '{UUID[:-1]}x',
                        'blue', '{{a', NULL
            UNION ALL SELECT 3, '', NULL, NULL, NULL, 'inf'::FLOAT, NULL, NULL, NULL, NULL, NULL""",
    ),
    Planted(
        "CUT",
        f"{ID}, A VARCHAR",
        ("(id integer, a varchar(3))",),
        [warning("too_long", "a")],
        rows="SELECT 1, 'abcd'",
        settings={"value_policies": {"too_long": "truncate"}},
    ),
    Planted(
        "TOLERATED",
        f"{ID}, A VARCHAR",
        ("(id integer, a varchar(3))",),
        [warning("too_long", "a")],
        rows="SELECT 1, 'abcd'",
        settings={"max_rejected_rows": 1},
    ),
    Planted(
        "NAN",
        f"{ID}, A FLOAT",
        ("(id integer, a float8)",),
        [error("nan", "a")],
        rows="SELECT 1, 'NaN'::FLOAT UNION ALL SELECT 2, 1.5::FLOAT",
        settings={"value_policies": {"nan": "reject"}},
    ),
    # --- foreign keys ---
    Planted(
        "PARENTS",
        ID,
        ("(id integer PRIMARY KEY)",),
        [error("foreign_key_blocks")],
        rows="SELECT 1 UNION ALL SELECT 2",
        settings={"truncate_onstart": True},
    ),
    Planted(
        "CHILDREN",
        f"{ID}, PARENT NUMBER(9,0), OTHER NUMBER(9,0)",
        ("(id integer, parent integer REFERENCES parents, other integer REFERENCES elsewhere)",),
        [error("orphans", "parent"), note("orphans")],
        rows="SELECT 1, 1, 1 UNION ALL SELECT 2, NULL, NULL UNION ALL SELECT 3, 7, 1",
    ),
    Planted(
        "HEN",
        f"{ID}, EGG NUMBER(9,0)",
        ("(id integer PRIMARY KEY, egg integer)",),
        [error("foreign_key_circle")],
    ),
    Planted(
        "EGG",
        f"{ID}, HEN NUMBER(9,0)",
        (
            "(id integer PRIMARY KEY, hen integer REFERENCES hen)",
            "ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg",
        ),
        [],
    ),
    Planted(
        "DENIED",
        ID,
        PLAIN,
        [error("source_table")],
    ),
]
ROLE = [
    "ALTER ROLE {role} CONNECTION LIMIT 5",
    "ALTER ROLE {role} SET statement_timeout = '5min'",
    "ALTER ROLE {role} SET idle_in_transaction_session_timeout = '1min'",
    "REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC",
    "GRANT USAGE ON SCHEMA migration_status TO {role}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA migration_status TO {role}",
    "SELECT pg_create_physical_replication_slot('nobody_reads_it', true)",
]
"""What is wrong with the role and the server."""
SERVERS = [
    warning("connections"),
    note("timeouts"),
    note("timeouts"),
    error("temporary"),
    warning("slots"),
    error("status_privileges"),
]


def plant(world: World, role: str) -> None:
    """Make both schemas, and the role with all that is wrong with it."""
    tables = [table for table in TABLES if table.name != "NO_SOURCE"]
    with (
        closing(world.snowflake.connect(database=world.source_database, schema="PUBLIC")) as connection,
        connection.cursor() as cursor,
    ):
        for table in tables:
            cursor.execute(f"CREATE TABLE {table.name} ({table.source})")
            if table.rows:
                cursor.execute(f"INSERT INTO {table.name} {table.rows}")
    statements = [
        "GRANT USAGE, CREATE ON SCHEMA public TO {role}",
        "CREATE FUNCTION kept_as_it_is() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TYPE mood AS ENUM ('glad', 'it''s sad')",
        "CREATE TABLE elsewhere (id integer PRIMARY KEY)",
    ]
    for table in TABLES:
        head, *rest = table.target or ("",)
        if head:
            statements += [f"CREATE TABLE {{t}} {head}" if head.startswith("(") else head, *rest]
            owner = "ALTER {kind} {t} OWNER TO {role}".replace("{kind}", "VIEW" if "VIEW" in head else "TABLE")
            statements += [owner] * table.owned
        statements = [s.replace("{t}", table.name.lower()) for s in statements]
    for statement in statements:
        world.target.execute(sql.SQL(statement.replace("{role}", '"' + role + '"')))
    named = {"role": sql.Identifier(role), "database": sql.Identifier(world.target.name)}
    for statement in ROLE:
        world.target.execute(sql.SQL(statement).format(**named))
    world.snowflake.deny([f"{world.source_database}.PUBLIC.DENIED"])
    world.tables += [{"source": table.name, **table.settings} for table in TABLES]


def expected() -> list[tuple[str, str, str]]:
    """What is to be found, each with its severity, check and place."""
    found = [(each.severity, each.check, "PostgreSQL") for each in SERVERS]
    for position, table in enumerate(TABLES):
        place = f"table {table.name} -> public.{table.name.lower()}"
        path = f"sources[0].tables[{position}]"
        for each in table.finds:
            column = f', column "{each.column}"' if each.column else ""
            found.append((each.severity, each.check, f"{path}.{each.setting}" if each.setting else f"{place}{column}"))
    return found
