"""Make the places, run every check, drop what was made: also after Ctrl-C and after a failure."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

from snowmelt.columns.type_pairs import quoted
from snowmelt.errors import AccessError, SnowmeltError
from snowmelt.postgres import tables
from snowmelt.postgres.session import Session
from snowmelt.selftest import moving, scratch, text_forms
from snowmelt.selftest.assumption import BrokenError, NotCheckedError, Result, Step
from snowmelt.selftest.bench import EVERY_TYPE, MANY_ROWS, Bench
from snowmelt.selftest.connections import OwnSource, Places
from snowmelt.selftest.contract import ASSUMPTIONS
from snowmelt.selftest.report import Redaction, Report, versions
from snowmelt.selftest.statements import ROWS, numbers
from snowmelt.snowflake_source import SnowflakeSource

_logger = logging.getLogger(__name__)
Show = Callable[[Result], None]


def intention(given: Places, *, user: str, host: str) -> tuple[str, ...]:
    """Return what a self-test will do, a line each."""
    in_snowflake = f"{given.snowflake_database}.{given.snowflake_schema}"
    made = "make schema {} and drop it at the end" if given.makes_snowflake_schema else "make tables in schema {}"
    lines = [f"in Snowflake, as {user}: {made.format(in_snowflake)}"]
    if given.makes_postgres_schema:
        lines.append(
            f"in PostgreSQL {host}, database {given.postgres_database}: make schemas {given.postgres_schema} and "
            f"{given.status_schema}, and drop them at the end"
        )
    else:
        lines.append(
            f"in PostgreSQL {host}, database {given.postgres_database}: make tables in schema {given.postgres_schema}, "
            "keep the run's status in the config's status schema, and delete both at the end"
        )
    checked = sum(each.check is not None for each in ASSUMPTIONS)
    lines.append(
        f"run {checked} checks of what Snowmelt relies on, then move and verify two tables of {text_forms.ROWS} and "
        f"{ROWS} rows: some hundred short statements, less than five minutes of the warehouse (of an X-Small "
        "less than a tenth of a credit)"
    )
    lines.append("touch no table, role or parameter that is there already")
    return tuple(lines)


def run(wiring: OwnSource, given: Places, show: Show, further: Sequence[Step] = ()) -> Report:
    """Run every check and return what came of each; ``show`` is told of each as it ends.

    After Ctrl-C or SIGTERM the check that is on comes to its end, and what was made is dropped. SnowmeltError where
    nothing can be checked: no sign-in, no right to make the schemas.
    """
    stopping = threading.Event()
    # Not in the main thread, where Snowflake's connector ends a statement at Ctrl-C, one that drops what was made too.
    with _noticed_by(stopping), ThreadPoolExecutor(1, thread_name_prefix="selftest") as pool:
        return pool.submit(_run, wiring, given, show, further, stopping).result()


def _run(wiring: OwnSource, given: Places, show: Show, further: Sequence[Step], stopping: threading.Event) -> Report:
    began = time.monotonic()
    redaction = Redaction(wiring.config(), given)
    results: list[Result] = []
    with Cleanup(wiring, given) as cleanup:
        bench = prepare(wiring, given, cleanup)
        needs = tuple(each.id for each in ASSUMPTIONS)
        steps = (*(each.step for each in ASSUMPTIONS), *moving.steps(wiring, needs), *further)
        found = versions(_servers(bench))
        for result in outcomes(steps, bench, redaction):
            results.append(result)
            show(result)
            if stopping.is_set():
                break
        bench.opened.close()
    return Report(
        tuple(results),
        found,
        time.monotonic() - began,
        stopped=stopping.is_set(),
        left_behind=tuple(cleanup.left_behind),
    )


def outcomes(steps: Sequence[Step], bench: Bench, redaction: Redaction | None = None) -> Iterator[Result]:
    """Yield how each check ends, one after the other."""
    failed: set[str] = set()
    for step in steps:
        result = _outcome(step, bench, failed)
        if result.verdict == "fail":
            failed.add(step.id)
        elif result.verdict == "skipped" and any(need in failed for need in step.needs):
            failed.add(step.id)  # what needs it says nothing either
        if redaction is not None:
            result = Result(result.id, result.verdict, result.seconds, redaction.of(result.reason))
        yield result


def _outcome(step: Step, bench: Bench, failed: set[str]) -> Result:
    if step.check is None:
        return Result(step.id, "skipped", 0.0, step.not_checked)
    missing = [need for need in step.needs if need in failed]
    if missing:
        return Result(step.id, "skipped", 0.0, f"it needs {missing[0]}")
    began = time.monotonic()

    def ended(verdict: str, reason: str = "") -> Result:
        return Result(step.id, verdict, time.monotonic() - began, reason)  # type: ignore[arg-type]

    try:
        step.check(bench)
    except BrokenError as broken:
        return ended("fail", str(broken))
    except NotCheckedError as reason:
        return ended("skipped", str(reason))
    except SnowmeltError as error:
        bench.forget_session()
        return ended("fail", f"{error.code}: {error.message}")
    except Exception as error:  # a surprise of the account's is what a self-test is for, and others still say something
        _logger.debug("check %s", step.id, exc_info=True)
        bench.forget_session()
        return ended("fail", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return ended("pass")


def prepare(wiring: OwnSource, given: Places, cleanup: "Cleanup") -> Bench:
    """Make schemas and tables on both sides; AccessError with what is missing."""
    config = wiring.config()
    own = config.source()

    def connect(**changes: object) -> SnowflakeSource:
        changed = config.model_copy(update={"snowflake": config.snowflake.model_copy(update=changes)})
        stack = cleanup.sessions
        return stack.enter_context(wiring.source(changed, own, None))

    session = cleanup.sessions.enter_context(wiring.target(config, given.postgres_database, "snowmelt selftest"))
    bench = Bench(
        connect,
        session,
        given.snowflake_database,
        given.snowflake_schema,
        given.postgres_schema,
        owns_target_schema=given.makes_postgres_schema,
        token=given.token,
    )
    cleanup.bench = bench
    _make_schemas(bench, given)
    bench.forget_session()  # it was opened before its schema was there
    for statement in text_forms.create_in_snowflake(bench.table(EVERY_TYPE)):
        bench.run(statement)
    many = bench.table(MANY_ROWS)
    bench.run(f"CREATE OR REPLACE TABLE {many} (ID NUMBER(9,0), NOTE VARCHAR)")
    bench.run(f"INSERT INTO {many} SELECT N, 'row ' || N FROM ({numbers()}) AS numbers")  # noqa: S608 - quoted
    for name, is_filled in ((EVERY_TYPE, False), (text_forms.FILLED, True)):
        tables.create(session, text_forms.create_in_postgres(_in_postgres(bench, name), filled=is_filled))
    tables.create(session, [f"CREATE TABLE {_in_postgres(bench, MANY_ROWS)} (id integer, note text)"])
    return bench


def _in_postgres(bench: Bench, name: str) -> str:
    target = bench.target(name)
    return f"{quoted(target.schema_name)}.{quoted(target.name)}"


def _make_schemas(bench: Bench, given: Places) -> None:
    if given.makes_snowflake_schema:
        role = bench.source.identity().role
        try:
            bench.run(f"CREATE SCHEMA {quoted(given.snowflake_database)}.{quoted(given.snowflake_schema)}")
        except SnowmeltError as error:
            raise AccessError(
                f"role {role} cannot make a schema in database {given.snowflake_database} of Snowflake: "
                f"{error.message}; name a role that may by --role, or a schema in which it may make tables by "
                f"--snowflake-schema, or run: GRANT CREATE SCHEMA ON DATABASE {quoted(given.snowflake_database)} "
                f"TO ROLE {role}"
            ) from error
    if given.makes_postgres_schema:
        try:
            scratch.create_schema(bench.session, given.postgres_schema)
        except AccessError as error:
            raise AccessError(
                f"{error.message}; name a schema in which the role may make tables by --postgres-schema, or grant it "
                f"CREATE on database {given.postgres_database}"
            ) from error


def _servers(bench: Bench) -> dict[str, str]:
    found = {"postgresql": scratch.version(bench.session)}
    with suppress(SnowmeltError):
        found["snowflake"] = str(bench.value("SELECT CURRENT_VERSION()"))
    return found


class Cleanup:
    """Drops what a self-test has made, on sessions of its own: the others may be in the middle of something."""

    def __init__(self, wiring: OwnSource, given: Places) -> None:
        self._wiring = wiring
        self._places = given
        self.sessions = ExitStack()
        self.bench: Bench | None = None
        self.left_behind: list[str] = []

    def __enter__(self) -> "Cleanup":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(SnowmeltError):
            self.sessions.close()
        if self.bench is None:
            return
        config = self._wiring.config()
        for statement in self._in_snowflake(self.bench):
            try:
                with self._wiring.source(config, config.source(), None) as source:
                    source.wait(source.submit(statement))
            except SnowmeltError as error:
                _logger.warning("not dropped in Snowflake: %s", error.message)
                self.left_behind.append(statement)
        try:
            with self._wiring.target(config, self._places.postgres_database, "snowmelt selftest") as session:
                self._drop_in_postgres(session, self.bench)
        except SnowmeltError as error:
            _logger.warning("not dropped in PostgreSQL: %s", error.message)
            self.left_behind += self._in_postgres(self.bench)

    def _in_snowflake(self, bench: Bench) -> Sequence[str]:
        schema = f"{quoted(bench.database)}.{quoted(bench.schema)}"
        if self._places.makes_snowflake_schema:
            return [f"DROP SCHEMA IF EXISTS {schema} CASCADE"]
        names = reversed(bench.made)  # views before their tables
        return [f"DROP {'VIEW' if '_VIEW_' in name else 'TABLE'} IF EXISTS {schema}.{quoted(name)}" for name in names]

    def _in_postgres(self, bench: Bench) -> Sequence[str]:
        if self._places.makes_postgres_schema:
            schemas = (self._places.postgres_schema, self._places.status_schema or "")
            return [f"DROP SCHEMA IF EXISTS {quoted(name)} CASCADE" for name in schemas]
        named = (f"{quoted(name.schema_name)}.{quoted(name.name)}" for name in bench.made_in_target)
        return [f"DROP TABLE IF EXISTS {name}" for name in named]

    def _drop_in_postgres(self, session: Session, bench: Bench) -> None:
        if self._places.makes_postgres_schema:
            scratch.drop_schema(session, self._places.postgres_schema)
            scratch.drop_schema(session, session.status_schema)
            return
        for name in bench.made_in_target:
            scratch.drop_table(session, name)
        if tables.has_schema(session, session.status_schema):
            scratch.forget_runs(session, self._places.source_name)


@contextmanager
def _noticed_by(stopping: threading.Event) -> Iterator[None]:
    """Set the event, and do nothing else, at Ctrl-C and SIGTERM; only the main thread can say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, lambda *_: stopping.set()) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, earlier in before.items():
            signal.signal(each, earlier)
