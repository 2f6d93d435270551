"""The worker with connector 5, in an environment of its own; the stand-in stays where it is."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest

from snowmelt.settings import Settings
from snowmelt.wiring import Wiring
from snowmelt_sandbox.demo import content, data
from snowmelt_sandbox.sandbox import started
from snowmelt_sandbox.snowflake import HOSTILE
from support import connector_5
from support.world import World

ROWS = 12_000
DEMO_ROWS = 367_687
"""336,776 flights, 26,115 hours of weather, 3,322 planes, 1,458 airports, 16 airlines."""
GRANTS = Path(__file__).parents[2] / "sql" / "grants_postgres.sql"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that finds connector 5 before this environment's packages."""
    try:
        return connector_5.make_environment(tmp_path_factory.mktemp("connector-5"))
    except connector_5.NotInstalledError as error:
        pytest.skip(str(error))


def migrate(python: Path, folder: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [python, "-m", "snowmelt.cli", "migrate"],
        env={"PATH": os.defpath, "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def is_connector_5(python: Path) -> None:
    program = "import snowflake.connector as c; print(c.__version__)"
    seen = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == connector_5.VERSION


@pytest.mark.full
def test_tables_of_all_kinds_are_exact_and_a_second_run_is_incremental(world: World, python: Path) -> None:
    is_connector_5(python)
    rows = pa.table(
        {
            "ID": pa.array(range(ROWS), pa.int64()),
            "NAME": pa.array([None if i % 7 == 0 else f"näme '{i}'" for i in range(ROWS)]),
            "PRICE": pa.array([i * 37 for i in range(ROWS)], pa.int64()).cast(pa.decimal128(19, 0)),
            "RATIO": pa.array([i / 7 for i in range(ROWS)], pa.float64()),
            "AT": pa.array(range(ROWS), pa.timestamp("us")),
        }
    )
    ddl = "(id bigint PRIMARY KEY, name text, price numeric, ratio float8, at timestamp)"
    for table, settings in (
        ("scanned", {"truncate_onstart": True}),
        ("ranged", {"truncate_onstart": True, "chunking_columns": ["ID"], "batch_size": 2_000}),
        ("merged", {"uniqueness_columns": ["ID"], "source_watermark": "AT"}),
    ):
        world.snowflake.load_table(world.source_database, "PUBLIC", table.upper(), rows)
        world.target.execute(f"CREATE TABLE {table} {ddl}")
        world.tables.append({"source": table.upper(), **settings})
    world.configure(verification="checksums")

    environment = world.environment(str(world.folder / "store"))
    migrate(python, world.folder, environment)
    assert [world.equal(table) for table in ("scanned", "ranged", "merged")] == [True, True, True]
    before = world.target.rows("SELECT id, xmin FROM merged ORDER BY id")
    migrate(python, world.folder, environment)
    assert world.target.rows("SELECT id, xmin FROM merged ORDER BY id") == before


@pytest.mark.full
def test_the_tables_of_the_demo_are_exact(python: Path, tmp_path: Path) -> None:
    """On servers of their own and under hostile defaults of the account, as the demo moves them."""
    is_connector_5(python)
    with started(account_parameters=HOSTILE) as sandbox:
        data.load(sandbox)
        environment = {
            "SNOWMELT_CONFIG": str(data.config_path()),
            "SNOWMELT_STORE": str(tmp_path / "store"),
            **sandbox.environment(),
            **data.create_loading_role(sandbox, GRANTS),
        }
        migrate(python, tmp_path, environment)
        source = Wiring(Settings(config=str(data.config_path())), environment).config().source(data.SOURCE_NAME)
        compared = content.compare_all(sandbox, source)
    assert [table.table for table in compared if not table.verified] == []
    assert sum(table.target_rows for table in compared) == DEMO_ROWS
