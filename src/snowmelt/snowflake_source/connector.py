"""What the connector's versions need that differ: 4.8, written in Python, and 5, whose core is a library of its own.

Everything else in this package is the same for both.
"""

import importlib
import inspect
from contextlib import suppress
from typing import Any

import pyarrow as pa
from snowflake.connector import SnowflakeConnection, __version__

IS_CORE = int(__version__.partition(".")[0]) >= 5
"""Whether this is the connector with a core of its own."""
_PIECE_BYTES = 1 << 20


def options() -> dict[str, Any]:
    """Return parameters of a sign-in that only one of them knows."""
    if not IS_CORE:
        return {}
    # Closing asks nothing and ends no scan; left out, a warning says that its default will change.
    return {"enable_server_session_keep_alive_auto_detection": False}


def adjust_downloads() -> None:
    """Let connector 4 read bodies by the megabyte, and leave it to ``ScanResult`` to try again.

    By its own 10 kB a batch costs a fifth more time, and its ten tries know of no deadline. Connector 5 downloads by
    other means.
    """
    if IS_CORE:
        return
    with suppress(ImportError):
        batches = importlib.import_module("snowflake.connector.result_batch")
        batches.MAX_DOWNLOAD_RETRY = 1  # type: ignore[attr-defined]
        client = importlib.import_module("snowflake.connector.vendored.requests.models")
        client.CONTENT_CHUNK_SIZE = _PIECE_BYTES  # type: ignore[attr-defined]


def is_json(batch: Any) -> bool:
    """Whether a result batch came in JSON, which neither version makes Arrow of."""
    return type(batch).__name__ == "JSONResultBatch"


def to_arrow(batch: Any, connection: SnowflakeConnection) -> pa.Table:
    """Return a result batch with exact decimals, and in microseconds: nanoseconds wrap the years 0001 and 9999.

    Connector 4 takes decimals from the connection, connector 5 from each call; the default of both is floats.
    """
    converted = {"force_microsecond_precision": True}
    if "number_to_decimal" in inspect.signature(batch.to_arrow).parameters:
        converted["number_to_decimal"] = True
    table: pa.Table = batch.to_arrow(connection=connection, **converted)
    return table
