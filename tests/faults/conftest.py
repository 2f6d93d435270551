"""Lanes of the fault harness: both servers, behind proxies."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fault_injection.lane import Lane

DEFINITION = Path(__file__).parents[2] / "statemachine" / "migration.asl.json"


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Lane]:
    """A lane as the script has them."""
    with Lane(tmp_path, DEFINITION) as lane:
        yield lane


@pytest.fixture
def narrow_lane(tmp_path: Path) -> Iterator[Lane]:
    """A lane whose migrations send the same messages in the same order each time, and few of them."""
    with Lane(tmp_path, DEFINITION, rows_per_chunk=1_500, threads=1) as lane:
        yield lane
