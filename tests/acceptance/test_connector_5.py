"""The worker with connector 5, in an environment of its own; the stand-in stays where it is."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pyarrow as pa
import pytest

from acceptance.world import World

VERSION = "5.2.0"
PROTOBUF = "6.33.6"
"""What its core is spoken to in; the other packages are those of this environment."""
ROWS = 12_000
SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that finds connector 5 before this environment's packages."""
    home = tmp_path_factory.mktemp("connector-5")
    venv.create(home, with_pip=False)
    (packages,) = home.glob("lib/python3*/site-packages")
    (mine,) = Path(sys.prefix).glob("lib/python3*/site-packages")
    wanted = [f"snowflake-connector-python=={VERSION}", f"protobuf=={PROTOBUF}"]
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--disable-pip-version-check"]
    installed = subprocess.run([*pip, "--target", packages, *wanted], capture_output=True, text=True, check=False)
    if installed.returncode != 0:
        pytest.skip(f"no package index gives {' and '.join(wanted)}: {installed.stderr[-300:]}")
    (packages / "others.pth").write_text(f"{SOURCE}\n{mine}\n", encoding="utf-8")
    return home / "bin" / "python"


def migrate(world: World, python: Path) -> None:
    done = subprocess.run(
        [python, "-m", "snowmelt.cli", "migrate"],
        env={"PATH": os.defpath, "HOME": str(world.folder), **world.environment(str(world.folder / "store"))},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.full
def test_tables_of_all_kinds_are_exact_and_a_second_run_is_incremental(world: World, python: Path) -> None:
    seen = subprocess.run(
        [python, "-c", "import snowflake.connector as c; print(c.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout.strip() == VERSION
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

    migrate(world, python)
    assert [world.equal(table) for table in ("scanned", "ranged", "merged")] == [True, True, True]
    before = world.target.rows("SELECT id, xmin FROM merged ORDER BY id")
    migrate(world, python)
    assert world.target.rows("SELECT id, xmin FROM merged ORDER BY id") == before
