"""Rejected rows that have been kept as long as the config says."""

import logging

from snowmelt.config import Config
from snowmelt.errors import SnowmeltError
from snowmelt.postgres.session import Session
from snowmelt.rejected_rows import expired_rows

logger = logging.getLogger(__name__)


def remove_expired_rows(session: Session, config: Config, source_name: str) -> tuple[str, ...]:
    """Remove rejected rows of the source's ended runs that are older than ``rejects_retention``.

    The lines tell how many rows of which table were removed, or why none could be: no run ends for that reason, and the
    next one tries again.
    """
    if config.rejects_retention is None:
        return ()
    try:
        lines = tuple(map(str, expired_rows.remove(session, source_name, config.rejects_retention)))
    except SnowmeltError as error:
        lines = (f"rejected rows that are older than rejects_retention could not be removed: {error.message}",)
    for line in lines:
        logger.warning(line)
    return lines
