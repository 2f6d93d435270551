"""Each run ends with its report, for programs and for people, and ``snowmelt report`` makes it afresh."""

import json
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from snowmelt import manifest_store, runner
from snowmelt.actions import finalize
from snowmelt.cli import console
from snowmelt.cli import report as command
from snowmelt.deadline import Deadline
from snowmelt.errors import AccessError, MissingError
from snowmelt.models import FinalizeEvent
from snowmelt.reports import page as pages
from snowmelt.reports import saved_report
from snowmelt.reports.report import REPORT_FORMAT, Report
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring
from support.world import SOURCE, World, eventually

EXECUTION = "local:this process"


def text_of(page: str) -> str:
    """What a reader sees of a page."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())


def kept(world: World) -> tuple[Report, str]:
    """The report in the run's store, both kinds."""
    folder = world.folder / "store" / "runs" / world.runs()[-1]["run_id"]
    facts = Report.model_validate_json((folder / "report.json").read_bytes())
    return facts, (folder / "report.html").read_text(encoding="utf-8")


def wiring(world: World, **changes: str) -> Wiring:
    """This process as one that may finish the world's runs."""
    environment = {**world.environment(str(world.folder / "store")), **changes}
    return Wiring(Settings(config=str(world.config), store=environment["SNOWMELT_STORE"]), environment)


def be_elsewhere(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    """Have commands in this process find that environment, and leave the logging of other tests alone."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(console, "set_up_logging", lambda *_, **__: None)


# --- the end of a run -----------------------------------------------------------------------------------------------


def test_a_run_ends_with_a_report_of_all_that_it_did(world: World) -> None:
    """Rows are refused, values cut, an index is built again: all of it is counted, and no row is quoted."""
    world.add_table("entries", 6000, batch_size=1000, disable_index=True, max_rejected_rows=9)
    world.tables[0]["column_policies"] = {"NOTE": {"too_long": "truncate"}}
    world.target.execute(
        "ALTER TABLE entries ALTER note TYPE varchar(40), ADD CONSTRAINT few CHECK (amount <> 1840.38);"
        "CREATE INDEX by_day ON entries (booked)"
    )
    world.add_table("notes", 10)
    world.target.execute("ALTER TABLE notes DROP COLUMN note")
    world.configure(parallel_threads=2)

    done = world.cli("migrate", "--json", "--config", str(world.config))
    facts, page = kept(world)

    answer, read = json.loads(done.out), text_of(page)
    assert (answer["report"]["key"], answer["page"]["key"]) == tuple(
        f"runs/{facts.run.run_id}/report.{kind}" for kind in ("json", "html")
    )
    assert (facts.report_format, facts.run.status) == (REPORT_FORMAT, "completed_with_rejects")
    entries, notes = facts.tables
    assert (entries.rows, entries.rejected, entries.source_rows, notes.rows) == (5999, 1, 6000, 10)
    assert facts.totals.rows == 6009
    assert facts.totals.changed_values == entries.changed_values["note"]["too_long"] > 4000
    assert any('"NOTE" is left out' in warning for warning in notes.warnings)
    assert [(each.table, each.sqlstate, each.rows) for each in facts.rejects] == [("ENTRIES", "23514", 1)]
    assert [(each.index, each.state) for each in facts.indexes] == [("by_day", "built")]
    assert sum(part.chunks for part in facts.durations) == facts.totals.chunks_completed >= 6
    assert sum(part.rows for part in facts.pace) == pytest.approx(6009, rel=0.001)
    assert facts.not_known == ()
    assert facts.snowflake is not None
    assert facts.snowflake.queries >= 4
    assert facts.snowflake.bytes_scanned > 100_000
    assert facts.config["tables"]["ENTRIES"]["batch_size"] == 1000
    for words in ("1 row that PostgreSQL refused", "6,009", "by_day", "23514", "too long", "Nothing was verified"):
        assert words in read
    assert "entry 5001" not in page  # the row that was refused
    assert world.snowflake.password not in page


def test_every_command_the_dashboard_and_the_report_say_the_same_speed_of_a_run(world: World) -> None:
    world.add_table("entries", 3000, truncate_onstart=True)
    world.add_table("notes", 500)
    world.configure(verification="checksums", batch_size=1000)

    migrated = json.loads(world.cli("migrate", "--json").out)
    status = json.loads(world.cli("status", "--json").out)
    (listed,) = json.loads(world.cli("runs", "--json").out)
    watched = json.loads(world.cli("status", "--watch", "--json").out.splitlines()[-1])[
        "run"
    ]  # as the dashboard has it
    facts, page = kept(world)

    chunks = world.chunks()
    loading = (max(c["completed_at"] for c in chunks) - min(c["started_at"] for c in chunks)).total_seconds()
    speed = facts.totals.rows_per_second
    assert speed == pytest.approx(3500 / loading)
    assert loading < facts.run.seconds  # which has the scans, indexes and verification too
    assert [seen["rows_per_second"] for seen in (migrated, status, listed, watched)] == [pytest.approx(speed)] * 4
    of_tables = [table.rows_per_second for table in facts.tables]
    for seen in (migrated, status, watched):
        assert [table["rows_per_second"] for table in seen["tables"]] == pytest.approx(of_tables)
    shown = f"{speed:,.0f} rows/s"
    assert f"completed, {facts.run.seconds:.0f} s, {shown} while loading" in world.cli("status").out
    assert shown in text_of(page)


def test_a_failed_run_has_a_report_that_says_why(world: World) -> None:
    world.add_table("entries", 30)
    world.target.execute("ALTER TABLE entries ADD CHECK (id < 10)")
    world.configure(max_retry_attempts=1)

    done = world.cli("migrate", "--config", str(world.config))
    facts, page = kept(world)

    assert done.exit_code == 1
    assert f"report: {world.folder}/store/runs/{facts.run.run_id}/report.html" in done.out
    assert (facts.run.status, facts.verdict.tone, facts.tables[0].rows) == ("failed", "bad", facts.totals.rows)
    assert "Failed: 1 of 1 table not complete" in text_of(page)
    assert "the next start tries the rest again" in text_of(page)


def test_the_state_machine_s_output_names_a_report_that_can_be_made_again_from_elsewhere(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.add_table("entries", 2500, batch_size=1000)
    world.configure()
    with world.aws() as aws:
        execution = aws.step_functions.run({"source_name": SOURCE})
        page, facts = (
            aws.s3().get_object(Bucket=execution.output[kind]["bucket"], Key=execution.output[kind]["key"])
            for kind in ("page", "report")
        )
        read, report_json = page["Body"].read().decode(), Report.model_validate_json(facts["Body"].read())
        be_elsewhere(monkeypatch, {**world.environment("elsewhere"), **aws.environment()})
        command.report(config_path=str(world.config), as_json=True)

    assert (page["ContentType"], facts["ContentType"]) == ("text/html; charset=utf-8", "application/json")
    assert "all rows of 1 table are in PostgreSQL" in text_of(read)
    assert report_json.workers.memory_mb == 1024
    assert not report_json.cost.is_hypothetical
    afresh = Report.model_validate_json(capsys.readouterr().out)
    assert (afresh.tables, afresh.pace, afresh.config) == (report_json.tables, report_json.pace, report_json.config)
    assert afresh.run.store == "s3://snowmelt/store"


def test_with_little_time_left_after_the_verdict_the_next_invocation_makes_the_report(world: World) -> None:
    world.add_table("entries", 50)
    world.configure()

    outcome = runner.migrate({}, wiring(world), execution_id=EXECUTION, invocation_seconds=15)

    assert (outcome.status, outcome.page is not None) == ("completed", True)
    assert kept(world)[0].run.status == "completed"


# --- what may go wrong with it --------------------------------------------------------------------------------------


@pytest.fixture
def finished(world: World) -> World:
    """A world whose one run is complete."""
    world.add_table("entries", 50)
    world.configure()
    assert runner.migrate({}, wiring(world), execution_id=EXECUTION).status == "completed"
    return world


def final(world: World, here: Wiring) -> Any:
    run_id = world.runs()[-1]["run_id"]
    event = FinalizeEvent(action="finalize", run_id=run_id, execution_id=EXECUTION)
    return finalize.finalize(event, here, Deadline.after(100))


def test_a_report_may_fail_in_any_way_and_be_made_again_and_the_verdict_stays(
    finished: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, page = kept(finished)
    verdict = final(finished, wiring(finished))
    assert kept(finished) == (before, page)  # the same facts, the same files

    def refuse(*_: object) -> None:
        raise AccessError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(manifest_store, "save_report", refuse)
        without = final(finished, wiring(finished))
    with monkeypatch.context() as patch:
        patch.setattr(pages, "page", lambda _: 1 / 0)
        defect = final(finished, wiring(finished))

    assert verdict.status == "completed"
    assert verdict.report is not None
    for each in (without, defect):
        assert each.model_copy(update={"report": verdict.report, "page": verdict.page}) == verdict
        assert (each.report, each.page) == (None, None)


@pytest.mark.full
def test_a_snowflake_that_is_away_or_silent_leaves_a_line_in_the_report(
    finished: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    final(finished, wiring(finished, SNOWFLAKE_PORT="1"))
    facts, page = kept(finished)
    assert facts.snowflake is None
    assert "cannot reach Snowflake" in facts.not_known[0]
    assert "cannot reach Snowflake" in text_of(page)

    monkeypatch.setattr(saved_report, "SNOWFLAKE_SECONDS", 0.2)
    with silent() as port:  # for ever
        final(finished, wiring(finished, SNOWFLAKE_PORT=str(port)))
    assert "no answer within" in kept(finished)[0].not_known[0]


@contextmanager
def silent() -> Iterator[int]:
    """A port whose server takes calls and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# --- snowmelt report ------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_a_run_under_way_has_a_report_too(world: World) -> None:
    world.add_table("entries", 6000, batch_size=500)
    world.configure(parallel_threads=1)
    world.snowflake.set_delays(batch_seconds=0.5, containing=world.source_database)
    running = world.start_cli("migrate", "--config", str(world.config))
    try:
        eventually(lambda: world.chunks("completed"), what="a chunk is in")
        made = world.cli("report", "--config", str(world.config), "--output", str(world.folder / "now.html"))
    finally:
        running.kill()
        running.wait()

    page = text_of((world.folder / "now.html").read_text(encoding="utf-8"))
    assert made.exit_code == 0, made.err
    assert made.out.splitlines() == ["Running: 0 of 1 table complete", f"report: {world.folder}/now.html"]
    assert "Running: 0 of 1 table complete" in page


def test_what_cannot_be_reported_on_is_one_line_and_what_can_in_part_is_reported(
    finished: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (plan,) = (finished.folder / "store").rglob("run.json")
    plan.unlink()
    be_elsewhere(monkeypatch, finished.environment("elsewhere"))
    config = str(finished.config)

    with pytest.raises(MissingError, match="there is no run other-run"):
        command.report("other-run", config_path=config)
    with pytest.raises(AccessError, match=r"cannot write /no/such/x\.html: .*; name another file by --output"):
        command.report(config_path=config, output=Path("/no/such/x.html"))
    command.report(config_path=config, as_json=True)

    facts = Report.model_validate_json(capsys.readouterr().out)
    assert (facts.totals.rows, facts.config, facts.snowflake) == (50, {}, None)
    assert "run.json is not there" in facts.not_known[0]
