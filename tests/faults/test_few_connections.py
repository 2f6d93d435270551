"""Far more workers than PostgreSQL has connections: the run finishes all the same, and no table waits for good."""

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from snowmelt.config import PostgresConfig
from snowmelt.engine import connection_count
from snowmelt.postgres.session import Session
from snowmelt_sandbox.postgres import LocalPostgres
from snowmelt_sandbox.snowflake import LocalSnowflake
from support.world import World

CONNECTIONS = 30
WORKERS = 64
TABLES = 8
ROWS = 2_400
RESERVED = 3
"""Connections that PostgreSQL keeps for superusers."""


def test_a_session_is_kept_warm_only_while_the_server_has_connections_to_spare() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(LocalPostgres(durable=False, max_connections=15))
        config = PostgresConfig(host=server.host, port=server.port, user=server.user, sslmode="disable")
        sessions = [
            stack.enter_context(Session.connect(config, database="postgres", application_name="snowmelt worker"))
            for _ in range(12)
        ]
        for session in sessions:
            connection_count.leave_room(session)
        kept = [session for session in sessions if not session.closed]
        # A session that was closed is counted for a moment more, and one too many may then go.
        assert 0 < len(kept) <= 15 - RESERVED - connection_count.ROOM
        assert all(session.alive() for session in kept)


@pytest.mark.full
def test_sixty_four_workers_share_thirty_connections(
    snowflake: LocalSnowflake, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with LocalPostgres(durable=False, max_connections=CONNECTIONS) as server, server.database() as database:
        snowflake.create_schema(database.name.upper(), "PUBLIC")
        world = World(snowflake, database, tmp_path)
        for number in range(TABLES):
            world.add_table(f"entries_{number}", ROWS, truncate_onstart=True)
        world.configure(batch_size=100, parallel_threads=WORKERS)
        began = time.monotonic()
        done = world.start_cli("migrate", "--json").wait(270)
        while done.exit_code != 0 and time.monotonic() - began < 250:
            assert "Traceback" not in done.err, done.err
            done = world.start_cli("migrate", "--json").wait(270)
        refused = server.log_file.read_text(encoding="utf-8", errors="replace").count("too many clients")
        figures = {
            "seconds": round(time.monotonic() - began, 1),
            "starts": len(world.status("SELECT execution_id FROM migration_status.run_executions")),
            "refused_connections": refused,
            "chunks": len(world.chunks()),
            "attempts": dict(Counter(c["attempts"] for c in world.chunks())),
        }
        record_property("figures", figures)
        print(json.dumps(figures))  # noqa: T201 - shown by pytest -rP

        assert done.exit_code == 0, done.err
        assert refused < CONNECTIONS, "the plan hands out what there are connections for"
        assert all(world.equal(f"entries_{number}") for number in range(TABLES))
        assert {c["status"] for c in world.chunks()} == {"completed"}
        assert figures["starts"] == 1
