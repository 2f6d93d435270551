"""Incidents at two in the morning: what is seen leads to what fixes it, and then every row is there.

Each is kept in docs/incidents.md as the commands print it; ``pytest --write-incidents`` writes the page's blocks again.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import psycopg2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from fault_injection.postgres_wire import COPY_DATA, PostgresLink
from fault_injection.proxy import Proxy
from fault_injection.traps import Blow, Moment, Trap, Traps
from snowmelt_sandbox.aws import Execution
from snowmelt_sandbox.snowflake.sign_in import User
from support import transcript
from support.forked import Ended
from support.left_behind import POSTGRES_PASSWORD
from support.transcript import Transcript
from support.world import SOURCE, World, eventually

Page = Callable[[Transcript, str], None]


@pytest.fixture
def told(world: World) -> Transcript:
    """Commands as on a terminal: only what needs attention is logged, and one worker keeps lines in order."""
    world.variables["SNOWMELT_LOG_LEVEL"] = "WARNING"
    return Transcript(world)


@pytest.fixture
def page(request: pytest.FixtureRequest) -> Page:
    """Compares a transcript with its section of the page, or writes it there."""
    return transcript.write if request.config.getoption("--write-incidents") else transcript.compare


@pytest.fixture
def full_disk(world: World) -> Iterator[Traps]:
    """Between workers and PostgreSQL something that can say what a server says whose disk is full."""
    traps = Traps()
    server = world.target.server
    with Proxy(PostgresLink, server.host, server.port, traps) as proxy:
        world.variables["POSTGRES_PORT"] = str(proxy.port)
        yield traps


def source(world: World, statement: str) -> None:
    world.snowflake.execute(statement.replace("ORDERS", f'"{world.source_database}"."PUBLIC"."ORDERS"'))


def interrupted(world: World, told: Transcript) -> None:
    """A run whose machine was switched off in the second of its chunks."""
    world.snowflake.set_delays(batch_seconds=10)
    command = told.starts("migrate")
    eventually(
        lambda: world.chunks("completed") and world.chunks("running"), what="the first chunk is in, the second begun"
    )
    command.kill()
    world.snowflake.set_delays()
    eventually(lambda: not world.sessions(), what="its sessions are gone")


def as_shown(execution: Execution) -> Ended:
    """An execution as the AWS command line shows it."""
    return Ended(0, "\n".join(str(each) for each in (execution.status, execution.error, execution.cause)), "")


SHOW = "aws stepfunctions describe-execution --query '[[status],[error],[cause]]' --output text --execution-arn ..."


def test_a_key_that_is_not_one_names_those_that_are(world: World, told: Transcript, page: Page) -> None:
    """An order has several rows; the first night copies into an empty table, the second has to merge."""
    world.add_table("orders", 2_000, uniqueness_columns=["ID"])
    source(world, "UPDATE ORDERS SET BOOKED = DATEADD(second, ID, '2024-01-01'::TIMESTAMP_NTZ)")
    source(world, "UPDATE ORDERS SET ID = FLOOR(ID / 2)")
    world.target.execute("ALTER TABLE orders ADD PRIMARY KEY (id, booked)")
    world.configure(verification="checksums", parallel_threads=1)
    assert told.starts("migrate").wait().exit_code == 0
    source(world, "UPDATE ORDERS SET NOTE = 'fixed' WHERE ID = 700")

    assert told.runs("migrate").exit_code == 2
    assert "has no unique index on id" in told.seen()
    assert "it keeps [booked, id] unique: name that in uniqueness_columns" in told.seen()

    told.turn()
    world.tables[0]["uniqueness_columns"] = ["ID", "BOOKED"]
    world.configure(verification="checksums", parallel_threads=1)
    told.does('in config.json: "uniqueness_columns": ["ID", "BOOKED"]')
    assert told.runs("migrate").exit_code == 0
    assert world.equal("orders")
    page(told, "Wrong key")


@pytest.mark.full
def test_a_key_pair_that_the_user_does_not_have_is_told_by_its_fingerprint(
    world: World, told: Transcript, page: Page
) -> None:
    """Somebody has given the user another key."""
    ours, others = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    user = User(f"LOADER_{world.source_database}", rsa_public_key=public(others))
    world.snowflake.put_user(user)
    world.add_table("orders", 2_000)
    pem = ours.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    world.variables["SNOWFLAKE_PRIVATE_KEY"] = pem
    world.configure(verification="checksums", parallel_threads=1, snowflake={"user": user.name})
    right = replace(user, rsa_public_key=public(ours))

    assert told.runs("migrate").exit_code == 1
    assert f"this key's fingerprint is {right.fingerprint()}" in told.seen()
    assert f"make this one the user's by `ALTER USER {user.name} SET RSA_PUBLIC_KEY = '...'`" in told.seen()

    told.turn()
    world.snowflake.put_user(right)
    told.does(f"in Snowflake: ALTER USER {user.name} SET RSA_PUBLIC_KEY = '...'")
    assert told.runs("migrate").exit_code == 0
    assert world.equal("orders")
    page(told, "Wrong key pair")


def public(key: RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_a_lock_that_nobody_lets_go_of_names_its_holder(world: World, told: Transcript, page: Page) -> None:
    world.add_table("orders", 2_000)
    world.configure(verification="checksums", batch_size=500, parallel_threads=1)
    world.snowflake.set_delays(batch_seconds=1.0)
    command = told.starts("migrate")
    eventually(lambda: world.chunks("completed"), what="the first chunk is in")

    with closing(world.target.server.connect(world.target.name)) as other, other.cursor() as cursor:
        cursor.execute("SET application_name = 'psql'")
        cursor.execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        eventually(lambda: world.status(waiting), what="the next chunk meets the lock")
        holder = other.info.backend_pid
        told.runs("status")
        assert f"it waits: a worker waits for a lock that is held by process {holder} (psql, user" in told.seen()
        assert "in a transaction since 2" in told.seen()
        assert f"`SELECT pg_terminate_backend({holder})` ends it" in told.seen()

        told.turn()
        told.queries(f"SELECT pg_terminate_backend({holder})")
        assert told.finishes(command, "migrate").exit_code == 0
        with pytest.raises(psycopg2.OperationalError):
            cursor.execute("SELECT 1")
    assert world.equal("orders")
    page(told, "Stuck lock")


def test_a_full_disk_is_said_to_be_one(world: World, told: Transcript, page: Page, full_disk: Traps) -> None:
    world.add_table("orders", 2_000)
    world.configure(verification="checksums", parallel_threads=1, max_retry_attempts=1)
    no_room = Blow(
        "refuse",
        code="53100",
        message='could not extend file "base/16384/16402": No space left on device',
    )
    full_disk.put(*(Trap(Moment("postgres", f"^{COPY_DATA}$", 1), no_room) for _ in range(20)))

    assert told.runs("migrate").exit_code == 1
    assert "the server's disk is full: make room, then start again and the run resumes" in told.seen()

    told.turn()
    full_disk.put()
    told.does("the disk is enlarged")
    assert told.runs("migrate").exit_code == 0
    assert world.equal("orders")
    assert len(world.runs()) == 1
    page(told, "Full disk")


@pytest.mark.full
def test_rows_that_share_a_key_and_outlast_an_invocation_ask_for_another_column(
    world: World, told: Transcript, page: Page
) -> None:
    world.add_table("orders", 8_000, chunking_columns=["NOTE"], truncate_onstart=True)
    source(world, "UPDATE ORDERS SET NOTE = 'open' WHERE ID < 7500")
    world.configure(verification="checksums", batch_size=1_000, parallel_threads=1)
    world.snowflake.set_delays(batch_seconds=1.0)
    with world.aws(timeout_seconds=5, concurrency=3, time_scale=0.05) as aws:
        failed = aws.step_functions.run({"source_name": SOURCE})
        told.shows(SHOW, as_shown(failed))
        assert failed.status == "FAILED"
        assert "7500 rows cannot be told apart by chunking_columns (NOTE); add a column that tells" in told.seen()

        told.turn()
        world.tables[0]["chunking_columns"] = ["NOTE", "ID"]
        world.configure(verification="checksums", batch_size=1_000, parallel_threads=1)
        told.does('in config.json: "chunking_columns": ["NOTE", "ID"], then a start with "no_resume": true')
        finished = aws.step_functions.run({"source_name": SOURCE, "no_resume": True})
        told.shows(SHOW, as_shown(finished))
        assert finished.status == "SUCCEEDED", finished.cause
    assert world.equal("orders")
    page(told, "Skewed chunk")


@pytest.mark.full
def test_a_duplicate_is_named_with_what_to_do_about_it(world: World, told: Transcript, page: Page) -> None:
    world.add_table("orders", 2_000, truncate_onstart=True)
    source(world, "INSERT INTO ORDERS SELECT ID, AMOUNT, 'again', BOOKED FROM ORDERS WHERE ID = 7")
    world.target.execute("ALTER TABLE orders ADD PRIMARY KEY (id)")
    world.configure(verification="checksums", parallel_threads=1, max_retry_attempts=1)

    assert told.runs("migrate").exit_code == 1
    assert "(Key (id)=(7) already exists." in told.seen()
    assert "delete one of the rows and start again: a new run begins" in told.seen()
    assert "the run resumes" not in told.seen()

    told.turn()
    told.asks_snowflake("DELETE FROM ORDERS WHERE ID = 7 AND NOTE = 'again'")
    assert told.runs("migrate").exit_code == 0
    assert world.equal("orders")
    assert world.target.rows("SELECT count(*) FROM orders") == [(2_000,)]
    page(told, "Duplicate key")


def test_a_target_that_was_altered_says_what_it_was(world: World, told: Transcript, page: Page) -> None:
    """A release changes the target while the run is stopped."""
    world.add_table("orders", 2_000, truncate_onstart=True)
    world.configure(verification="checksums", batch_size=1_000, parallel_threads=1)
    interrupted(world, told)
    world.target.execute("ALTER TABLE orders ALTER amount TYPE numeric(14,4)")

    assert told.runs("migrate").exit_code == 1
    assert "column amount of the target public.orders has another type" in told.seen()
    assert (
        "(numeric(14,4), it was numeric(12,2)); undo the change and start again, or start with --no-resume"
        in told.seen()
    )
    assert "the run resumes" not in told.seen()

    told.turn()
    assert told.runs("migrate", "--no-resume").exit_code == 0
    assert world.equal("orders")
    page(told, "Schema change")


def test_a_result_that_has_expired_says_how_to_restart(world: World, told: Transcript, page: Page) -> None:
    """The machine was off for more than a day, and rows of one scan cannot be told from those of another."""
    world.add_table("orders", 2_000)
    world.configure(verification="checksums", batch_size=1_000, parallel_threads=1)
    interrupted(world, told)
    for query_id in world.scans():
        world.snowflake.expire_results(query_id)

    assert told.runs("migrate").exit_code == 1
    assert "empty the target (TRUNCATE public.orders) and start again: a new run begins" in told.seen()
    assert "the run resumes" not in told.seen()

    told.turn()
    told.queries("TRUNCATE public.orders")
    assert told.runs("migrate").exit_code == 0
    assert world.equal("orders")
    page(told, "Expired result")


def test_a_function_that_lambda_does_not_start_says_what_is_short(world: World, told: Transcript, page: Page) -> None:
    """Another function of the account has taken all of its concurrency."""
    world.add_table("orders", 2_000)
    world.configure(verification="checksums", parallel_threads=1)
    with world.aws(concurrency=2, time_scale=0.01) as aws:
        aws.functions.concurrency = 0
        failed = aws.step_functions.run({"source_name": SOURCE})
        told.shows(SHOW, as_shown(failed))
        assert (failed.status, failed.error) == ("FAILED", "FailedByAws")
        assert aws.functions.statistics().throttles > 5
        assert "Lambda has no room for the function" in told.seen()
        assert "free or raise what is short, or lower parallel_threads, and start again" in told.seen()

        told.turn()
        aws.functions.concurrency = 2
        told.does("the account's other function is stopped, and the execution started again")
        finished = aws.step_functions.run({"source_name": SOURCE})
        told.shows(SHOW, as_shown(finished))
        assert finished.status == "SUCCEEDED", finished.cause
    assert world.equal("orders")
    page(told, "Throttling")


def test_a_missing_grant_is_written_out(world: World, told: Transcript, page: Page) -> None:
    world.add_table("orders", 2_000)
    name = world.target.name
    loader = f"{name}_loader"
    world.target.execute(f"CREATE ROLE \"{loader}\" LOGIN PASSWORD '{POSTGRES_PASSWORD}'")
    world.target.execute(f'GRANT CREATE ON DATABASE "{name}" TO "{loader}"; GRANT SELECT ON orders TO "{loader}"')
    world.variables["POSTGRES_USER"] = loader
    world.configure(verification="checksums", parallel_threads=1)
    try:
        assert told.runs("migrate").exit_code == 2
        named = re.search(
            r"public.orders may not be loaded by this user; (GRANT INSERT ON \S+ TO [^\s;]+)", told.seen()
        )
        assert named

        told.turn()
        told.queries(named[1])
        assert told.runs("migrate").exit_code == 0
        assert world.equal("orders")
    finally:
        world.target.execute(f'DROP OWNED BY "{loader}" CASCADE; DROP ROLE "{loader}"')
    page(told, "Missing grant")


def test_a_bad_row_is_named_and_comes_in_when_it_fits(world: World, told: Transcript, page: Page) -> None:
    world.add_table("orders", 2_000)
    world.target.execute("ALTER TABLE orders ALTER note TYPE varchar(60)")
    source(world, "UPDATE ORDERS SET NOTE = REPEAT('x', 61) WHERE ID = 1700")
    world.configure(verification="checksums", parallel_threads=1)

    assert told.runs("migrate").exit_code == 1
    assert 'row 1701 of chunk 1, column "note": the text is longer than varchar(60) holds' in told.seen()
    assert "change the target so that it takes them and start again" in told.seen()

    told.turn()
    told.queries("ALTER TABLE public.orders ALTER note TYPE varchar(100)")
    assert told.runs("migrate").exit_code == 0
    assert world.equal("orders")
    page(told, "Bad row")
