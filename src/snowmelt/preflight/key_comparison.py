"""Find rows that the target would take for the same: Snowflake counts, PostgreSQL compares what only it can compare."""

from collections.abc import Sequence

from snowmelt.columns.type_pairs import postgres_type
from snowmelt.errors import DataError
from snowmelt.findings import Finding, Place
from snowmelt.postgres.session import Session
from snowmelt.preflight import duplicates, key_values
from snowmelt.preflight.duplicates import RepeatedKey, UniqueKey
from snowmelt.snowflake_source import SnowflakeSource
from snowmelt.wording import counted

MOST_COMPARED = 200_000
"""Keys that PostgreSQL compares beforehand; with more of them the load finds what is the same."""


class KeyComparison:
    """Compares the keys of one table's rows, as they are read."""

    def __init__(
        self, snowflake: SnowflakeSource, session: Session, place: Place, *, source: str, conditions: Sequence[str]
    ) -> None:
        self._snowflake = snowflake
        self._session = session
        self._place = place
        self._source = source
        self._conditions = conditions

    def compare(
        self, keys: Sequence[UniqueKey], row: Sequence[object]
    ) -> tuple[tuple[RepeatedKey, ...], tuple[Finding, ...]]:
        """Return the keys that are repeated, and what could not be compared; ``row`` has the counts of each key."""
        repeated, unknown = [], []
        for key, (rows, images) in zip(keys, duplicates.numbers(keys, row), strict=True):
            found, told = rows - images, key_values.Repeated(0)
            if key.unsaid and images > 1:
                try:
                    told = self._told_by_postgres(key, images)
                except DataError as error:
                    unknown.append(self._unknown(key, images, error))
            if found + told.keys:
                repeated.append(RepeatedKey(key, found + told.keys, told.keys, self._shown(key, told)))
        return tuple(repeated), tuple(unknown)

    def _told_by_postgres(self, key: UniqueKey, images: int) -> key_values.Repeated:
        if images > MOST_COMPARED:
            raise DataError(f"there are more than {MOST_COMPARED:,} of them")
        query = duplicates.spellings(key, source=self._source, conditions=self._conditions)
        return key_values.repeated(self._session, key.columns, self._snowflake.aggregate(query))

    def _shown(self, key: UniqueKey, told: key_values.Repeated) -> Sequence[Sequence[object]]:
        if told.shown:
            return told.shown
        return self._snowflake.aggregate(duplicates.examples(key, source=self._source, conditions=self._conditions))

    def _unknown(self, key: UniqueKey, images: int, error: DataError) -> Finding:
        types = ", ".join(f"{c.target.name} {postgres_type(c.target)}" for c in key.unsaid)
        return self._place.warning(
            "key_uncompared",
            f"which of {counted(images, 'key')} ({', '.join(key.names)}) are the same, only PostgreSQL can say "
            f"({types}), and could not beforehand: {error.message}; the load finds what is the same",
            "nothing to do if the source holds none",
            column=key.names[0] if len(key.names) == 1 else None,
        )
