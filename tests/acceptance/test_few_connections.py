"""A role or a database that may have few connections: the run takes fewer workers, says so, and ends well."""

from collections.abc import Iterator

import pytest
from psycopg2 import sql

from support.world import World


@pytest.fixture
def loader(world: World) -> Iterator[str]:
    """A role that owns the targets, whose indexes are built at the end."""
    name = f"loader_{world.target.name}"
    role = sql.Identifier(name)
    for table in ("entries", "extras"):
        world.add_table(table, 900, disable_index=True)
        world.target.execute(
            sql.SQL("CREATE INDEX ON {0} (booked); CREATE INDEX ON {0} (amount)").format(sql.Identifier(table))
        )
    world.target.execute(
        sql.SQL(
            "CREATE ROLE {0} LOGIN; GRANT ALL ON DATABASE {1} TO {0}; GRANT ALL ON SCHEMA public TO {0};"
            "ALTER TABLE entries OWNER TO {0}; ALTER TABLE extras OWNER TO {0}"
        ).format(role, sql.Identifier(world.target.name))
    )
    world.variables["POSTGRES_USER"] = name
    world.configure(batch_size=100, parallel_threads=16, threads_per_invocation=8, verification="checksums")
    yield name
    world.target.execute(sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(role))


@pytest.mark.parametrize(("whose", "limit", "chunks"), [("role", 5, "2 chunks"), ("database", 4, "1 chunk")])
def test_a_run_keeps_within_the_connections_of_its_role_and_its_database(
    world: World, loader: str, whose: str, limit: int, chunks: str
) -> None:
    name = sql.Identifier(loader if whose == "role" else world.target.name)
    world.target.execute(
        sql.SQL("ALTER {} {} CONNECTION LIMIT {}").format(sql.SQL(whose.upper()), name, sql.Literal(limit))
    )

    done = world.cli("migrate", "--config", str(world.config))

    assert done.exit_code == 0, done.err
    told = f"{whose} {name.string} gives {limit} connections, of which 2 are taken: {chunks} instead of 16 "
    assert told in done.err
    assert "too many connections" not in done.err
    refused = f'too many connections for {whose} "{name.string}"'
    assert refused not in world.target.server.log_file.read_text(encoding="utf-8", errors="replace")
    assert world.equal("entries")
    assert world.equal("extras")
    assert {chunk["attempts"] for chunk in world.chunks()} == {1}
