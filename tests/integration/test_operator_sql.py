"""The SQL that operators run by hand, run by hand's own program against a status schema that real runs filled."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from snowmelt import actions, runner
from snowmelt.deadline import Deadline
from snowmelt.errors import ConfigError
from snowmelt.settings import Settings
from snowmelt.sql_text import operator_files, queries
from snowmelt.wiring import Wiring
from snowmelt_sandbox.postgres import Database, LocalPostgres
from snowmelt_sandbox.snowflake import LocalSnowflake
from support.psql import run_psql

FOLDER = Path(__file__).parents[2] / "sql"
ROLE = "operator_sql_loader"
FOR_POSTGRES = (
    "clear_state",
    "count_target",
    "diagnose",
    "grants_postgres",
    "progress",
    "reset_state",
    "reset_targets",
    "status_schema",
)
CHANGES = {"clear_state", "grants_postgres", "reset_state", "reset_targets"}
STATES = ("completed", "with_rejects", "failed", "running", "abandoned", "unknown")
FOR_SNOWFLAKE = ("count_source", "grants_snowflake")
COMPLAINTS = r"^.*(?:ERROR|FATAL|unterminated|invalid command|extra argument|unrecognized).*$"
"""What psql says of a statement, or of a line of its own, that it did not understand."""


@dataclass(frozen=True)
class Runs:
    """A database with a run of each kind in its status schema, loaded by a role that has just the granted rights."""

    database: Database
    snowflake: LocalSnowflake
    folder: Path
    completed: str = ""
    failed: str = ""
    running: str = ""
    with_rejects: str = ""
    abandoned: str = ""

    def new_target(self, name: str) -> str:
        """An empty table that the role may load."""
        self.database.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, name varchar(8))")
        psql(self.database, "grants_postgres.sql", role=ROLE, schema="public")
        return name

    def start(self, source: str, target: str, *, table: str = "GOOD", **settings: Any) -> str:
        """A run of one table; that of source ``open`` is begun and not driven on."""
        config = {
            "batch_size": 500,
            "max_retry_attempts": 1,
            "sources": [
                {
                    "source_name": f"{source}_{target}",
                    "source_sf_database": "OPERATORS",
                    "source_sf_schema": "PUBLIC",
                    "target_pg_database": self.database.name,
                    "target_pg_schema": "public",
                    "tables": [{"source": table, "target": target, "truncate_onstart": True, **settings}],
                }
            ],
        }
        path = self.folder / f"{target}.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        environment = {**self.snowflake.environment(), **self.database.server.environment(), "POSTGRES_USER": ROLE}
        wiring = Wiring(Settings(config=str(path), store=str(self.folder / "store")), environment)
        if source == "open":
            event = {"action": "validate_config", "execution_id": f"test:{target}"}
            return str(actions.run(event, wiring, Deadline.after(600))["run_id"])
        return runner.migrate({}, wiring, execution_id=f"test:{target}").run_id


@pytest.fixture(scope="module")
def runs(
    postgres: LocalPostgres, snowflake: LocalSnowflake, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    snowflake.create_schema("OPERATORS", "PUBLIC")
    two_tables = """
        create or replace table good as
        select n as id, 'row ' || n::varchar as name from (select seq4() as n from table(generator(rowcount => 2000)));
        create or replace table bad as
        select seq4() as id, 'too long for it' as name from table(generator(rowcount => 10))"""
    for statement in two_tables.split(";"):
        snowflake.execute(statement, database="OPERATORS", schema="PUBLIC")
    with postgres.database() as database:
        database.execute(f"CREATE ROLE {ROLE} LOGIN")
        try:
            given = Runs(database, snowflake, tmp_path_factory.mktemp("operators"))
            abandoned = given.start("open", given.new_target("given_up"))
            for table in ("run_tables", "runs"):
                database.execute(
                    f"UPDATE migration_status.{table} SET status = 'abandoned' WHERE run_id = '{abandoned}'"
                )
            yield replace(
                given,
                abandoned=abandoned,
                with_rejects=given.start("few", given.new_target("few"), table="BAD", max_rejected_rows=10),
                completed=given.start("done", given.new_target("good")),
                failed=given.start("broken", given.new_target("bad"), table="BAD"),
                running=given.start("open", given.new_target("left_open")),
            )
        finally:
            database.execute(f"DROP OWNED BY {ROLE} CASCADE")
            database.execute(f"DROP ROLE {ROLE}")


def psql(database: Database, file: str, *options: str, types: str = "", **variables: str) -> str:
    """What psql prints for the file, and for who types that; it must find nothing wrong with it."""
    return _psql(database, "-f", str(FOLDER / file), *options, types=types, **variables)


def _psql(database: Database, *options: str, types: str = "", **variables: str) -> str:
    done = run_psql(database.dsn, *options, types=types, within_seconds=300, **variables)
    assert done.returncode == 0, done.stderr
    assert re.findall(COMPLAINTS, done.stderr, re.MULTILINE) == [], done.stderr
    return done.stdout


def one(database: Database, query: str, *values: object) -> Any:
    """The only value of the only row."""
    ((value,),) = database.rows(query, values)
    return value


# --- looking --------------------------------------------------------------------------------------------------------


def test_the_status_schema_that_operators_install_is_the_packages_own() -> None:
    assert (FOLDER / "status_schema.sql").read_text(encoding="utf-8") == queries.text("engine/status_schema.sql")


def test_installing_the_status_schema_by_hand_changes_nothing_of_one_that_is_there(runs: Runs) -> None:
    before = runs.database.rows("SELECT * FROM migration_status.v_table_progress ORDER BY run_id, table_id")
    psql(runs.database, "status_schema.sql", "--set=ON_ERROR_STOP=1")
    after = runs.database.rows("SELECT * FROM migration_status.v_table_progress ORDER BY run_id, table_id")
    assert [row[:12] for row in after] == [row[:12] for row in before]


def test_grants_that_are_piped_into_psql_install_the_status_schema_without_a_file_beside_them(
    database: Database,
) -> None:
    role = one(database, "SELECT current_user::text")
    _psql(database, types=operator_files.text("grants_postgres"), role=role, schema="public")
    assert one(database, "SELECT count(*) FROM migration_status.runs") == 0


def test_each_file_is_listed_for_the_server_that_understands_it() -> None:
    servers = {each.name: each.server for each in operator_files.every_file()}
    assert servers == dict.fromkeys(FOR_POSTGRES, "PostgreSQL") | dict.fromkeys(FOR_SNOWFLAKE, "Snowflake")


def test_a_role_with_just_the_granted_rights_loads_a_table(runs: Runs) -> None:
    assert one(runs.database, "SELECT count(*) FROM good") == 2000
    status = one(runs.database, "SELECT status FROM migration_status.runs WHERE run_id = %s", runs.completed)
    assert status == "completed"
    assert one(runs.database, "SELECT reltuples FROM pg_class WHERE relname = 'good'") == 2000, "it was analyzed"


def test_a_role_with_just_the_granted_rights_moves_the_sequence_of_a_column(runs: Runs) -> None:
    runs.database.execute("CREATE TABLE numbered (id bigserial PRIMARY KEY, name varchar(8))")
    psql(runs.database, "grants_postgres.sql", role=ROLE, schema="public")
    runs.start("done", "numbered")
    assert one(runs.database, "INSERT INTO numbered (name) VALUES ('next') RETURNING id") == 2000


def test_a_role_with_what_the_comments_of_the_grants_add_drops_indexes_and_builds_them_again(
    runs: Runs, tmp_path: Path
) -> None:
    target = runs.new_target("indexed")
    runs.database.execute("CREATE INDEX indexed_name ON indexed (name); REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(ConfigError, match=r"belongs to another user.*; .*GRANT CREATE ON SCHEMA"):
        runs.start("done", target, disable_index=True)
    grants = (FOLDER / "grants_postgres.sql").read_text(encoding="utf-8").split("disable_index")[1]
    statements = "\n".join(re.findall(r"^--   (.+)$", grants.split("\n\n")[0], re.MULTILINE))
    run_by_hand(runs.database, statements.replace("TARGET", target).replace("snowmelt", ROLE), tmp_path)
    run_id = runs.start("done", target, disable_index=True)
    built = "SELECT restored_at IS NOT NULL FROM migration_status.saved_indexes WHERE run_id = %s"
    assert one(runs.database, built, run_id) is True
    assert one(runs.database, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'indexed_name'::regclass") is True


def test_progress_shows_a_run_that_is_on_and_the_tables_of_the_one_asked_for(runs: Runs) -> None:
    shown = psql(runs.database, "progress.sql", run_id=runs.completed)
    assert f"Tables of run {runs.completed}" in shown
    assert re.search(r"GOOD\s*\| public\.good\s*\| completed\s*\|\s*2000 \|\s*2000 \|\s*100\.0", shown)
    assert runs.running in shown.split("Tables of run")[0]


def test_progress_takes_the_latest_run_when_none_is_named(runs: Runs) -> None:
    latest = "SELECT run_id FROM migration_status.runs ORDER BY started_at DESC LIMIT 1"
    assert f"Tables of run {one(runs.database, latest)}" in psql(runs.database, "progress.sql")


def test_counting_the_target_finds_each_table_equal_to_its_scan(runs: Runs) -> None:
    shown = psql(runs.database, "count_target.sql", "--csv", run_id=runs.completed)
    assert shown.splitlines()[1] == "GOOD,public.good,completed,2000,2000,2000,t"


def test_counting_the_target_finds_rows_that_somebody_has_deleted(runs: Runs) -> None:
    runs.database.execute("CREATE TABLE kept AS SELECT * FROM good; DELETE FROM good WHERE id < 3")
    try:
        shown = psql(runs.database, "count_target.sql", "--csv", run_id=runs.completed)
    finally:
        runs.database.execute("TRUNCATE good; INSERT INTO good SELECT * FROM kept; DROP TABLE kept; ANALYZE good")
    assert shown.splitlines()[1] == "GOOD,public.good,completed,2000,2000,1997,f"


def test_diagnosis_asks_numbered_questions_and_answers_why_a_run_failed(runs: Runs) -> None:
    shown = psql(runs.database, "diagnose.sql", run_id=runs.failed)
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", shown, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 11
    tables = shown.split("\n3. ")[1].split("\n4. ")[0]
    assert "RejectedRowsError" in tables
    assert "10 of 10 rows are refused" in tables
    refused = shown.split("Which rows were refused")[1]
    assert re.search(r"BAD\s*\| name\s*\|.*longer than varchar\(8\) holds\s*\|\s*10", refused)


def test_diagnosis_finds_no_fault_with_the_sums_of_sound_runs(runs: Runs) -> None:
    for run_id in (runs.completed, runs.failed, runs.running):
        sums = psql(runs.database, "diagnose.sql", run_id=run_id).split("\n11. ")[1].split("\n12. ")[0]
        assert "(0 rows)" in sums


def test_diagnosis_names_the_runs_that_hold_targets(runs: Runs) -> None:
    held = psql(runs.database, "diagnose.sql", run_id=runs.completed).split("\n15. ")[1]
    assert runs.running in held
    assert runs.failed in held
    assert runs.completed not in held


# --- word for word --------------------------------------------------------------------------------------------------


def test_each_file_is_run_here_by_the_program_of_its_server() -> None:
    assert sorted(file.stem for file in FOLDER.glob("*.sql")) == sorted(FOR_POSTGRES + FOR_SNOWFLAKE)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("file", [name for name in FOR_POSTGRES if name not in CHANGES])
def test_what_only_looks_is_understood_word_for_word_in_each_state_of_a_run(runs: Runs, file: str, state: str) -> None:
    kept = runs.database.rows("SELECT run_id, status FROM migration_status.runs ORDER BY run_id")
    keys = {"keys": "on"} if file == "diagnose" else {}
    psql(runs.database, f"{file}.sql", "--set=ON_ERROR_STOP=1", run_id=getattr(runs, state, "of-nobody"), **keys)
    assert runs.database.rows("SELECT run_id, status FROM migration_status.runs ORDER BY run_id") == kept


@pytest.mark.parametrize("file", FOR_POSTGRES)
def test_a_quote_that_nothing_closes_is_found_in_a_line_that_psql_prints(file: str) -> None:
    for line in (FOLDER / f"{file}.sql").read_text(encoding="utf-8").splitlines():
        if line.startswith("\\"):
            assert line.replace("''", "").count("'") % 2 == 0, line
            assert line.count('"') % 2 == 0, line


def test_no_file_asks_what_psql_cannot_answer_in_a_database_without_a_run(database: Database) -> None:
    psql(database, "status_schema.sql", "--set=ON_ERROR_STOP=1")
    for file in FOR_POSTGRES:
        if file != "grants_postgres":  # it grants to a role that there must be
            psql(database, f"{file}.sql", "--set=ON_ERROR_STOP=1", run_id="of-nobody", source="nobody", keys="on")


# --- fixing --------------------------------------------------------------------------------------------------------


def fixes() -> list[str]:
    """The SQL that the diagnosis keeps in comments, a block for each question that has some."""
    questions = re.split(r"^\\echo \d+\. ", (FOLDER / "diagnose.sql").read_text(encoding="utf-8"), flags=re.MULTILINE)
    blocks = ["\n".join(re.findall(r"^--   (.+)$", question, re.MULTILINE)) for question in questions[1:]]
    return [block for block in blocks if block]


@pytest.mark.parametrize("fix", fixes())
def test_every_fix_of_the_diagnosis_is_sql_that_runs(runs: Runs, fix: str, tmp_path: Path) -> None:
    # pid 0 is nobody's, which the server only warns of; and nothing of it is kept.
    block = fix.replace("BLOCKING_PID", "0").replace("BEGIN;", "").replace("COMMIT;", "")
    run_by_hand(runs.database, f"BEGIN;\n{block}\nROLLBACK;", tmp_path, run_id=runs.running)


def test_a_run_closed_by_hand_lets_its_target_go_and_is_never_resumed(runs: Runs, tmp_path: Path) -> None:
    target = runs.new_target("closed_by_hand")
    closed = runs.start("open", target)
    run_by_hand(runs.database, fixes()[-1], tmp_path, run_id=closed)
    assert closed not in psql(runs.database, "diagnose.sql", run_id=closed).split("\n15. ")[1]
    after = runs.start("open", target)
    assert after != closed
    old = "SELECT status, load_epoch FROM migration_status.run_tables WHERE run_id = %s"
    assert runs.database.rows(old, (closed,)) == [("abandoned", 2)]


def run_by_hand(database: Database, statements: str, folder: Path, **variables: str) -> None:
    file = folder / "by_hand.sql"
    file.write_text(statements, encoding="utf-8")
    _psql(database, "-f", str(file), ON_ERROR_STOP="1", **variables)


# --- forgetting -----------------------------------------------------------------------------------------------------


def test_a_run_that_is_running_is_never_forgotten(runs: Runs) -> None:
    assert f"kept: run {runs.running} is running" in psql(runs.database, "clear_state.sql", run_id=runs.running)
    assert chunks_and_tables(runs, runs.running) == (0, 1)


def test_a_run_that_is_over_is_forgotten_with_all_its_rows_and_its_target_stays(runs: Runs) -> None:
    over = runs.start("done", runs.new_target("loaded_once"))
    assert chunks_and_tables(runs, over) == (4, 1)
    assert f"forgotten: run {over}, which was completed" in psql(runs.database, "clear_state.sql", run_id=over)
    assert chunks_and_tables(runs, over) == (0, 0)
    assert one(runs.database, "SELECT count(*) FROM loaded_once") == 2000


def test_a_run_with_indexes_to_rebuild_is_not_forgotten(runs: Runs) -> None:
    runs.database.execute(
        "INSERT INTO migration_status.saved_indexes "
        "(run_id, table_id, target_schema, target_table, index_name, definition, is_unique, size_bytes) "
        f"VALUES ('{runs.failed}', 0, 'public', 'bad', 'bad_id', 'CREATE INDEX bad_id ON bad (id)', false, 0)"
    )
    try:
        assert "has dropped 1 indexes" in psql(runs.database, "clear_state.sql", run_id=runs.failed)
        assert chunks_and_tables(runs, runs.failed) == (1, 1)
    finally:
        runs.database.execute("DELETE FROM migration_status.saved_indexes")


def test_forgetting_a_run_that_is_not_there_says_so_and_forgets_nothing(runs: Runs) -> None:
    before = one(runs.database, "SELECT count(*) FROM migration_status.runs")
    assert "there is no run of-nobody" in psql(runs.database, "clear_state.sql", run_id="of-nobody")
    assert one(runs.database, "SELECT count(*) FROM migration_status.runs") == before


def chunks_and_tables(runs: Runs, run_id: str) -> tuple[int, int]:
    chunks = "SELECT count(*) FROM migration_status.chunks WHERE run_id = %s"
    tables = "SELECT count(*) FROM migration_status.run_tables WHERE run_id = %s"
    return one(runs.database, chunks, run_id), one(runs.database, tables, run_id)


# --- resetting ------------------------------------------------------------------------------------------------------


def everything(runs: Runs) -> list[Any]:
    """All that the status schema has of runs, and the rows of every target."""
    names = [
        name for (name,) in runs.database.rows("SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public'")
    ]
    rows = [runs.database.rows(f"SELECT count(*) FROM {name}") for name in sorted(names)]
    tables = ("runs", "run_tables", "chunks", "watermarks", "rejected_rows", "saved_indexes")
    return rows + [runs.database.rows(f"SELECT t::text FROM migration_status.{name} t ORDER BY 1") for name in tables]


def source_of(runs: Runs, run_id: str) -> str:
    found = runs.database.rows("SELECT source_name FROM migration_status.runs WHERE run_id = %s", (run_id,))
    return str(found[0][0]) if found else "nobody"


@pytest.mark.parametrize("answer", ["no", "", "y"])
@pytest.mark.parametrize("file", ["reset_state.sql", "reset_targets.sql"])
def test_a_reset_changes_nothing_without_a_yes(runs: Runs, file: str, answer: str) -> None:
    before = everything(runs)
    for state in STATES:
        source = source_of(runs, getattr(runs, state, "of-nobody"))
        said = psql(runs.database, file, types=f"{answer}\n", source=source)
        expected = {"unknown": "source nobody", "running": "kept: run", "abandoned": ""}
        assert expected.get(state, "nothing was changed") in said
    assert everything(runs) == before


def test_the_reset_of_a_source_forgets_its_runs_and_watermarks_and_no_row_of_a_target(runs: Runs) -> None:
    over = runs.start("done", runs.new_target("loaded_before_reset"))
    source, others = source_of(runs, over), runs.database.rows("SELECT count(*) FROM migration_status.runs")[0][0]
    runs.database.execute(
        "INSERT INTO migration_status.watermarks"
        " (source_name, target_schema, target_table, watermark, watermark_type, run_id)"
        f" VALUES ('{source}', 'public', 'loaded_before_reset', '1', 'number', '{over}')"
    )
    said = psql(runs.database, "reset_state.sql", types=f"{source}\nyes\n")
    assert re.search(rf"{over} \| completed .*\|\s+1 \|\s+4 \|\s+0", said)
    assert "public.loaded_before_reset" in said
    assert f"forgotten: all runs and watermarks of source {source}" in said
    assert one(runs.database, "SELECT count(*) FROM migration_status.runs") == others - 1
    assert one(runs.database, "SELECT count(*) FROM migration_status.watermarks") == 0
    assert one(runs.database, "SELECT count(*) FROM loaded_before_reset") == 2000


def test_a_run_that_is_driven_keeps_its_source_from_being_reset(runs: Runs) -> None:
    before = everything(runs)
    for file in ("reset_state.sql", "reset_targets.sql"):
        said = psql(runs.database, file, source=source_of(runs, runs.running), confirm="yes")
        assert f"kept: run {runs.running} is driven by test:left_open" in said
    assert everything(runs) == before


def test_the_reset_of_targets_empties_them_and_closes_what_was_open_on_them(runs: Runs) -> None:
    target = runs.new_target("to_be_emptied")
    done = runs.start("open", target)
    runs.database.execute(
        f"UPDATE migration_status.run_executions SET expires_at = now() - interval '1 h' WHERE run_id = '{done}';"
        f"INSERT INTO {target} SELECT n, 'old' FROM generate_series(1, 9) n;"
        "INSERT INTO migration_status.watermarks"
        " (source_name, target_schema, target_table, watermark, watermark_type, run_id)"
        f" VALUES ('open_{target}', 'public', '{target}', '1', 'number', '{done}')"
    )
    said = psql(runs.database, "reset_targets.sql", types="yes\n", source=f"open_{target}")
    assert re.search(rf"public\.{target} \|.*\|\s+1$", said, re.MULTILINE)
    assert re.search(rf"{done} \| running", said)
    assert f"emptied: public.{target}" in said
    assert one(runs.database, f"SELECT count(*) FROM {target}") == 0
    assert one(runs.database, "SELECT count(*) FROM migration_status.watermarks") == 0
    closed = "SELECT r.status, t.status FROM migration_status.runs r JOIN migration_status.run_tables t USING (run_id)"
    assert runs.database.rows(f"{closed} WHERE run_id = %s", (done,)) == [("abandoned", "abandoned")]
    assert runs.start("open", target) != done


def test_targets_that_another_table_refers_to_are_not_emptied(runs: Runs) -> None:
    target = runs.new_target("referred_to")
    run_id = runs.start("done", target)
    runs.database.execute(f"CREATE TABLE refers (id bigint REFERENCES {target}); INSERT INTO refers VALUES (1)")
    with pytest.raises(AssertionError, match="cannot truncate a table referenced in a foreign key"):
        psql(runs.database, "reset_targets.sql", source=source_of(runs, run_id), confirm="yes")
    assert one(runs.database, f"SELECT count(*) FROM {target}") == 2000
    assert one(runs.database, "SELECT count(*) FROM refers") == 1


# --- keys of the targets --------------------------------------------------------------------------------------------


def test_diagnosis_finds_gaps_duplicates_and_nulls_in_keys_and_how_they_are_distributed(runs: Runs) -> None:
    runs.database.execute('CREATE TABLE "Gap Table" (id bigint, name varchar(8))')
    psql(runs.database, "grants_postgres.sql", role=ROLE, schema="public")
    run_id = runs.start("done", '"Gap Table"', chunking_columns=["ID"])
    runs.database.execute(
        'DELETE FROM "Gap Table" WHERE id BETWEEN 100 AND 149 OR id = 7;'
        """INSERT INTO "Gap Table" VALUES (5, 'x'), (5, 'y'), (NULL, 'z')"""
    )
    said = psql(runs.database, "diagnose.sql", "--tuples-only", "--no-align", run_id=run_id, keys="on")
    _, gaps, doubles, distribution = re.split(r"^(?:18|19|20)\. .*$", said, flags=re.MULTILINE)
    assert gaps.split() == ["public.Gap", "Table|id|100|149|50", "public.Gap", "Table|id|7|7|1"]
    assert doubles.strip() == "public.Gap Table|id|1952|1|1|2|(5)"
    parts = [line.split("|")[2:] for line in distribution.strip().splitlines()[:10]]
    assert parts[:2] == [["1", "0", "199", "151"], ["2", "200", "399", "200"]]
    assert "no target has another key than a number" in distribution


def test_diagnosis_names_ranges_that_are_still_to_be_loaded_and_takes_other_keys_than_numbers(
    runs: Runs,
) -> None:
    runs.database.execute("CREATE TABLE named (id bigint, name varchar(8) PRIMARY KEY)")
    psql(runs.database, "grants_postgres.sql", role=ROLE, schema="public")
    run_id = runs.start("open", "named")
    runs.database.execute(
        f"UPDATE migration_status.run_tables SET strategy = 'key_range' WHERE run_id = '{run_id}';"
        "INSERT INTO migration_status.chunks (run_id, table_id, chunk_id, source_table, reads, estimated_rows, status)"
        f" VALUES ('{run_id}', 0, 1, 'GOOD', '{{\"start\": null, \"stop\": [\"m\"]}}', 5, 'completed'),"
        f" ('{run_id}', 0, 2, 'GOOD', '{{\"start\": [\"m\"], \"stop\": null}}', 7, 'pending');"
        "INSERT INTO named SELECT n, 'n' || n FROM generate_series(1, 9) n"
    )
    said = psql(runs.database, "diagnose.sql", "--tuples-only", "--no-align", run_id=run_id, keys="on")
    _, ranges, gaps, doubles, distribution = re.split(r"^(?:17|18|19|20)\. .*$", said, flags=re.MULTILINE)
    assert ranges.strip() == 'GOOD||["m"]||7|2|pending|'
    assert "no target has a number for its key" in gaps
    assert doubles.strip() == "public.named|name|9|0|0|0|"
    assert "public.named|name|50|n5" in distribution


# --- Snowflake ------------------------------------------------------------------------------------------------------


def test_counting_the_source_gives_the_rows_that_are_there_and_those_that_the_run_read(
    runs: Runs, snowflake: LocalSnowflake
) -> None:
    query = "SELECT query_id FROM migration_status.run_tables WHERE run_id = %s"
    text = (FOLDER / "count_source.sql").read_text(encoding="utf-8").split("-- 3.")[0]
    text = text.replace('"NYC"."PUBLIC"."FLIGHTS"', '"OPERATORS"."PUBLIC"."GOOD"')
    text = text.replace("-- S", "S").replace("QUERY_ID", one(runs.database, query, runs.completed))
    text = text.replace("SELECT COUNT(*) AS rows_read FROM", "SELECT * FROM")  # the stand-in can do no more with it
    counts = [s for s in re.sub("--.*", "", text).split(";") if s.strip()]
    now, read = (snowflake.execute(count) for count in counts)
    assert now == [(2000,)]
    assert len(read) == 2000


def test_the_grants_for_snowflake_let_it_read_and_nothing_else() -> None:
    text = re.sub("--.*", "", (FOLDER / "grants_snowflake.sql").read_text(encoding="utf-8"))
    assert set(re.findall(r"\bGRANT (\w+)", text)) == {"ROLE", "USAGE", "SELECT"}


# --- the page -------------------------------------------------------------------------------------------------------


def test_every_file_is_explained_on_the_page_beside_them() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [f.name for f in sorted(FOLDER.glob("*.sql")) if f"`{f.name}`" not in page] == []
