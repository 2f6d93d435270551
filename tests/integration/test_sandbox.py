"""`snowmelt sandbox`: both servers on this machine, ready for any config, gone without a trace when stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest
import snowflake.connector
from dotenv import dotenv_values

PATIENCE_SECONDS = 120.0
CSV = "id,name,price\n1,bolt,0.25\n2,nut,\n3,washer,1.5\n"


@dataclass(frozen=True)
class Running:
    """A sandbox that has said it is ready."""

    process: "subprocess.Popen[str]"
    environment: Mapping[str, str]

    def children(self) -> list[int]:
        return _descendants(self.process.pid)

    def ports(self) -> list[int]:
        return [int(self.environment["SNOWFLAKE_PORT"]), int(self.environment["POSTGRES_PORT"])]


@contextmanager
def sandbox(folder: Path, *options: str) -> Iterator[Running]:
    """The command, once it has written its environment file."""
    env_file = folder / ".env"
    env_file.unlink(missing_ok=True)
    process = start(folder, "sandbox", "--env-file", str(env_file), *options)
    try:
        said = process.stdout.readline() if process.stdout else ""  # the first line comes when both servers run
        assert said, process.communicate()[1]
        eventually(lambda: env_file.exists() and "POSTGRES_SSLMODE" in env_file.read_text(), what="the file is written")
        yield Running(process, {k: v or "" for k, v in dotenv_values(env_file).items()})
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "snowmelt.cli", *arguments],
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def eventually(seen: Callable[[], object], *, what: str) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not seen():
        assert time.monotonic() < until, f"it took more than {PATIENCE_SECONDS:g} s until {what}"
        time.sleep(0.05)


def _descendants(pid: int) -> list[int]:
    children: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += [int(child) for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        pass  # it, or one of its threads, ended while we looked: a server's helper processes come and go
    return [*children, *(grandchild for child in children for grandchild in _descendants(child))]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def config(folder: Path) -> Path:
    """A config without connections, beside the file that has them."""
    source = {
        "source_name": "shop",
        "source_sf_database": "SANDBOX",
        "source_sf_schema": "PUBLIC",
        "target_pg_database": "postgres",
        "target_pg_schema": "public",
        "tables": [{"source": '"parts"', "target": "parts"}],
    }
    path = folder / "config.json"
    path.write_text(json.dumps({"lambda_timeout_buffer_seconds": 5, "sources": [source]}))
    return path


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everyone may enter: where tests run as root, PostgreSQL runs as someone else."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "data").mkdir()
        (Path(name) / "data" / "parts.csv").write_text(CSV)
        yield Path(name)


def assert_gone(children: list[int], ports: list[int]) -> None:
    eventually(lambda: not any(map(is_alive, children)), what="every server has ended")
    eventually(lambda: not any(map(is_open, ports)), what="nobody listens any more")


@pytest.mark.full
def test_a_folder_of_csv_travels_through_the_sandbox_with_nothing_but_its_env_file(folder: Path) -> None:
    with sandbox(folder, "--load", str(folder / "data")) as running:
        there = running.environment
        target = psycopg2.connect(
            host=there["POSTGRES_HOST"],
            port=there["POSTGRES_PORT"],
            user=there["POSTGRES_USER"],
            password=there["POSTGRES_PASSWORD"],
            dbname="postgres",
        )
        target.autocommit = True
        target.cursor().execute("CREATE TABLE parts (id bigint, name text, price double precision)")
        path = str(config(folder))

        connections = run(folder, "test-connections", "--config", path)
        migrated = run(folder, "migrate", "--config", path, "--json")

        with target.cursor() as cursor:
            cursor.execute("SELECT * FROM parts ORDER BY id")
            rows = cursor.fetchall()
        target.close()
        children, ports = running.children(), running.ports()
        running.process.send_signal(signal.SIGINT)
        _, said = running.process.communicate(timeout=PATIENCE_SECONDS)
    assert (connections.returncode, connections.stderr) == (0, "")
    verdicts = [line.split(":")[:2] for line in connections.stdout.splitlines()]
    assert verdicts == [["snowflake", " ok"], ["postgres", " ok"]]
    assert migrated.returncode == 0, migrated.stderr
    assert json.loads(migrated.stdout)["status"] == "completed"
    assert rows == [(1, "bolt", 0.25), (2, "nut", None), (3, "washer", 1.5)]
    assert said.splitlines() == [
        'loaded 3 rows into SANDBOX.PUBLIC."parts"',
        "both servers run; put these lines into the .env beside your config. Ctrl-C stops them.",
        "stopping",
    ]
    assert running.process.returncode == 0
    assert_gone(children, ports)


@pytest.mark.full
def test_a_folder_of_csv_is_moved_by_the_config_that_the_sandbox_writes(folder: Path) -> None:
    (folder / "data" / "Big Parts.csv").write_text(CSV)
    with sandbox(folder, "--load", str(folder / "data"), "--config-file", "config.json") as running:
        made = run(folder, "schema", "ddl", "--apply")
        migrated = [run(folder, "migrate", "--json") for _ in range(2)]
        running.process.send_signal(signal.SIGINT)
        running.process.communicate(timeout=PATIENCE_SECONDS)
    assert made.stderr.strip() == "created public.big parts, public.parts"
    for done in migrated:
        assert done.returncode == 0, done.stderr
        assert [table["rows"] for table in json.loads(done.stdout)["tables"]] == [3, 3]


@pytest.mark.full
def test_a_sandbox_with_a_folder_of_its_own_keeps_its_data_and_leaves_nothing_else(folder: Path) -> None:
    kept = ("--directory", str(folder / "kept"))
    with sandbox(folder, *kept, "--load", str(folder / "data"), "--into", "SHOP.RAW") as running:
        children, ports = running.children(), running.ports()
        assert len(children) >= 2
        assert all(map(is_open, ports))
        running.process.send_signal(signal.SIGTERM)
        _, said = running.process.communicate(timeout=PATIENCE_SECONDS)
    assert (running.process.returncode, said.splitlines()[-1]) == (0, "stopping")
    assert_gone(children, ports)

    with sandbox(folder, *kept) as running:
        names = ("ACCOUNT", "USER", "PASSWORD", "HOST", "PORT", "PROTOCOL")
        sign_in = {name.lower(): running.environment[f"SNOWFLAKE_{name}"] for name in names}
        with snowflake.connector.connect(**sign_in, platform_detection_timeout_seconds=0.0) as connection:
            cursor = connection.cursor()
            cursor.execute('SELECT count(*), sum("price") FROM SHOP.RAW."parts"')
            rows = cursor.fetchall()
        children, ports = running.children(), running.ports()
        running.process.kill()
        assert_gone(children, ports)
    assert rows == [(3, 1.75)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ("--config-file", "config.json"),
            "ConfigError: --config-file is for what --load brings; name a folder by --load",
        ),
        (("--into", "SANDBOX"), "ConfigError: --into SANDBOX: write DATABASE.SCHEMA, such as SANDBOX.PUBLIC"),
        (
            ("--env-file", "no/dir/.env"),
            "ConfigError: --env-file no/dir/.env cannot be written: No such file or directory; name another file",
        ),
    ],
)
def test_a_sandbox_that_cannot_do_what_it_was_asked_says_so_on_one_line(
    tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    ended = run(tmp_path, "sandbox", *options)

    assert (ended.returncode, ended.stdout, ended.stderr.splitlines()) == (2, "", [says])


@pytest.mark.parametrize("option", ["--load", "--directory"])
def test_a_file_where_a_folder_is_wanted_is_a_usage_error(tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("")

    ended = run(tmp_path, "sandbox", option, "file")

    assert ended.returncode == 2
    said = " ".join(ended.stderr.split())
    assert f"Invalid value for '{option}'" in said
    assert "'file' is a file." in said
