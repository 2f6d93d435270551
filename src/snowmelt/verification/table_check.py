"""Compare one table's target with the rows that were read for it, find what differs, and fix it."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from snowmelt.columns.type_pairs import quoted
from snowmelt.errors import DataError, RejectedRowsError
from snowmelt.loading import staging
from snowmelt.models import ColumnPlan, TablePlan, WatermarkPlan
from snowmelt.planning.key_images import only_postgres_compares
from snowmelt.postgres.session import Cursor, Session, code_of_targets, fetch
from snowmelt.snowflake_source import SnowflakeSource
from snowmelt.verification import comparing, forms, literal_rows, results, source_rows, target_hashes
from snowmelt.verification.comparing import Pair, Suspects, Tally
from snowmelt.verification.sides import SnowflakeSide, StagedSide, staged
from snowmelt.verification.source_rows import Asked, FoundRows, Load, NotComparableError, Opener
from snowmelt.verification.source_sql import SourceRows, StatementTooLongError
from snowmelt.verification.target_hashes import Hashing, TargetSide
from snowmelt.verification.verdicts import ColumnDifference, Mode, Repair, RowDifference, TableVerdict
from snowmelt.wording import counted

KEYS_AT_ONCE = 2_000
"""Keys whose rows are fetched by one statement."""
MOST_CONFIRMED = 50_000
"""Beyond so many suspects of inexact hashes it is cheaper to read all values."""
MOST_PASSES = 4
"""Passes over the source to find suspects of inexact hashes; where it takes more, as where JSON holds many floats, one
pass that reads all values is cheaper."""
MOST_REPAIRED = 200_000
MOST_LEFT_OUT = 10_000
"""Rejected rows whose hashes are asked for; of more than these only the number is compared."""
Summed = Callable[[SnowflakeSide, TargetSide], tuple[Tally, Tally]]
_NOT_SHOWN = "among the missing rows are those that the load rejected; they cannot be staged, so no row is shown"


def both(source: SnowflakeSide, target: TargetSide) -> tuple[Tally, Tally]:
    """The sums of both servers, which are asked at the same time."""
    with ThreadPoolExecutor(1, thread_name_prefix="verify") as pool:
        there = pool.submit(source.total)
        here = target.total()
        return there.result(), here


def verify_table(
    session: Session, snowflake: SnowflakeSource, plan: TablePlan, load: Load, asked: Asked, summed: Summed = both
) -> TableVerdict:
    """The verdict on a table of a completed load; it never calls different what it could not compare.

    ``summed`` asks both sides for the sums of their hashes.
    """
    began = time.monotonic()
    target_hashes.forget_staging(session, plan)
    try:
        verdict = _Check(session, snowflake, plan, load, asked, summed).verdict()
    except NotComparableError as error:
        verdict = not_comparable(plan.source, str(plan.target), load.run_id, asked.mode, str(error), error.advice)
    except RejectedRowsError as error:
        reason = f"the load rejected rows, which cannot be staged to compare values: {error.message}"
        advice = "run `snowmelt verify --mode checksums`, or correct the rows in the source and load the table again"
        verdict = not_comparable(plan.source, str(plan.target), load.run_id, asked.mode, reason, advice)
    return verdict.model_copy(update={"seconds": round(time.monotonic() - began, 3)})


AFTER_AN_ERROR = "remove what the error names, then run `snowmelt verify` for the table again"


def not_comparable(table: str, target: str, run_id: str | None, mode: Mode, reason: str, advice: str) -> TableVerdict:
    """Give the verdict on a table that cannot be compared: why, and what to do."""
    return TableVerdict(
        table=table, target=target, run_id=run_id, mode=mode, verdict="not comparable", reason=reason, advice=advice
    )


class _Check:
    def __init__(
        self,
        session: Session,
        snowflake: SnowflakeSource,
        plan: TablePlan,
        load: Load,
        asked: Asked,
        summed: Summed,
    ) -> None:
        self._summed = summed
        self._session = session
        self._snowflake = snowflake
        self._plan = plan
        self._load = load
        self._asked = asked
        by_name = {column.target.name: column for column in plan.columns}
        self._own_key = tuple(by_name[name] for name in plan.key)
        # Rows that were there keep their values under insert_only: only that each key is there can be asked.
        self._compared = self._own_key if plan.load_mode == "insert_only" else plan.columns
        self._key = self._own_key if _hashes_agree(self._own_key) else ()
        self._not_exact = tuple(c.target.name for c in self._compared if not _form(c).is_exact)
        self._keeps_others = plan.append or plan.load_mode != "copy"
        self._rejected: tuple[Pair, ...] = ()
        # Of rows with the same key a merge keeps the newest.
        self._one_of = bool(self._key) and plan.watermark is not None
        # A merge leaves a newer row of the target alone, and with insert_only every row. A copy finds none: rows of its
        # target become newer after the run, if at all. Where only PostgreSQL compares the key, hashes do not tell that
        # a row gave way to a newer one.
        only_there = any(only_postgres_compares(column) for column in self._own_key)
        gave_way = load.deduplicated_rows > 0 and plan.takes_newest and only_there
        self._keeps_rows = (
            plan.load_mode == "insert_only"
            or gave_way
            or (plan.keeps_newer and (plan.load_mode == "upsert" or not asked.ends_the_load))
        )

    # --- the verdict --------------------------------------------------------------------------------------------------

    def verdict(self) -> TableVerdict:
        self._refuse_what_has_no_sense()
        read = source_rows.find(
            self._snowflake,
            self._plan,
            self._load,
            all_rows=self._asked.all_rows,
            compared=self._compared,
            key=self._key,
        )
        target = target_hashes.target_rows(self._plan, self._bounds())
        source = self._without_rejected(read.source)
        read = replace(read, rows=self._rows_if_needed(read))
        found = self._compare(source, read, TargetSide(self._session, target, self._by_sql()))
        if not (self._asked.repair and found.differs):
            return found
        try:
            repaired = self._repair(source)
        except DataError as error:
            return found.model_copy(update={"reason": f"not repaired: {error.message}"})
        again = self._compare(source, read, TargetSide(self._session, target, self._by_sql()))
        if again.differs:
            return again.model_copy(update={"repaired": repaired, "reason": self._why_not_kept(again)})
        return again.model_copy(update={"repaired": repaired, "differences": found.differences})

    def _rows_if_needed(self, read: FoundRows) -> int | None:
        """Return how many rows were read where the comparison itself does not count them first."""
        if read.rows is None and (self._asked.mode == "counts" or self._asked.sample is not None):
            ((rows,),) = self._snowflake.aggregate(read.source.count())
            return int(rows)
        return read.rows

    def _why_not_kept(self, again: TableVerdict) -> str:
        """Name what does not keep the values that a repair has written, and what may change them."""
        columns = f"columns that do not keep it: {', '.join(again.by_column)}" if again.by_column else ""
        names = target_hashes.rewriting_triggers(self._session, self._plan.target)
        cause = (
            f"drop or disable what rewrites {again.target} ({', '.join(names)}), or set verification to counts"
            if names
            else f"{again.target} has no trigger and no rule, so something else writes to it at the same time"
        )
        parts = ("the repair was written and the table still differs", columns, cause)
        return "; ".join(part for part in parts if part)

    def _compare(self, source: SourceRows, read: FoundRows, target: TargetSide) -> TableVerdict:
        verdict = TableVerdict(
            table=self._plan.source,
            target=str(self._plan.target),
            run_id=self._load.run_id,
            mode=self._asked.mode,
            verdict="equal",
            gave_way=self._load.deduplicated_rows,
            rejected=self._load.rejected_rows,
            omitted=self._plan.omitted,
            snapshot=read.snapshot,
            not_exact=() if self._asked.mode == "counts" else self._not_exact,
        )
        if self._asked.mode == "counts":
            return self._counted(verdict, read.rows or 0, self._countable(target).count())
        every = self._every(read.rows or 0)
        source, by_sql = replace(source, every=every), replace(self._by_sql(), every=every)
        exact = replace(by_sql, is_exact=True)
        target = replace(target, hashing=by_sql)
        if self._asked.mode == "rows":
            return self._by_values(verdict, source, target, exact)
        is_utf8 = target_hashes.pin_text_forms(self._session)
        if not is_utf8:
            raise NotComparableError(
                "the target database's encoding is not UTF8, in which Snowflake's texts are hashed",
                "run `snowmelt verify --mode rows`",
            )
        try:
            there, here = self._summed(self._side(source), target)
        except (DataError, StatementTooLongError) as error:
            if isinstance(error, DataError) and forms.TOO_LONG_FOR_FORMS not in error.message:
                raise
            return self._by_values(verdict, source, target, exact)
        verdict = _with_rows(verdict, there, here, every)
        if there == here:
            return verdict
        most = MOST_PASSES if self._not_exact else None
        found = comparing.locate_within(
            self._side(source), target, max(there.rows, here.rows), most_statements=most, one_of=self._one_of
        )
        if found is None or (self._not_exact and len(found) > MOST_CONFIRMED):
            return self._by_values(verdict, source, target, exact)
        return self._confirmed(verdict, source, target, exact, found)

    def _without_rejected(self, source: SourceRows) -> SourceRows:
        """Return the source without the rows that the load rejected, whose hashes are asked for once."""
        if not self._load.rejected_rows or self._asked.mode == "counts":
            return source
        rows = results.rejected_rows(self._session, self._load.run_id, self._plan.table_id, limit=MOST_LEFT_OUT + 1)
        if len(rows) > MOST_LEFT_OUT:
            return source
        self._rejected = tuple(
            (int(key), int(row))
            for select in literal_rows.selects(rows, self._plan.columns)
            for key, row in self._snowflake.aggregate(replace(source, select=select).all_pairs())
        )
        return replace(source, without=tuple(Counter(row for _, row in self._rejected).items()))

    def _side(self, source: SourceRows) -> SnowflakeSide:
        rejected = (pair for pair in self._rejected if pair[0] % source.every == 0)
        return SnowflakeSide(self._snowflake, source, tuple(rejected))

    def _counted(self, verdict: TableVerdict, there: int, here: int) -> TableVerdict:
        there -= self._load.deduplicated_rows + self._load.rejected_rows
        verdict = verdict.model_copy(update={"source_rows": there, "target_rows": here})
        if there == here or (self._keeps_others and here > there):
            return verdict.model_copy(update={"left_alone": here - there})
        if self._one_of and here < there:
            raise NotComparableError(
                f"the source has {there} rows and the target {here}, but rows of the source may share a key, of which "
                "the newest counts",
                "run `snowmelt verify --mode checksums`, or set verification to checksums",
            )
        return verdict.model_copy(
            update={"verdict": "different", "missing": max(0, there - here), "extra": max(0, here - there)}
        )

    def _by_values(self, verdict: TableVerdict, source: SourceRows, target: TargetSide, exact: Hashing) -> TableVerdict:
        """Compare values: the source's rows are fetched, staged, and hashed by PostgreSQL."""
        target_hashes.pin_text_forms(self._session)
        target = replace(target, hashing=exact)
        side = StagedSide(self._session, self._plan, exact, Opener(self._snowflake, source, self._result_id))
        there, here = side.total(), target.total()
        verdict = _with_rows(verdict, there, here, source.every)
        if there == here:
            return verdict
        found = comparing.locate(side, target, max(there.rows, here.rows), one_of=self._one_of)
        return self._told(verdict, source, target, exact, found, found_by=exact)

    def _confirmed(
        self, verdict: TableVerdict, source: SourceRows, target: TargetSide, exact: Hashing, found: Suspects
    ) -> TableVerdict:
        """The verdict on suspects; where hashes are not exact, of those that values convict."""
        if self._not_exact:
            found = self._convicted(source, target, exact, found)
        return self._told(verdict, source, target, exact, found, found_by=target.hashing)

    def _convicted(self, source: SourceRows, target: TargetSide, exact: Hashing, found: Suspects) -> Suspects:
        """Suspects whose values differ in PostgreSQL's own eyes."""
        keyed = bool(self._key)
        convicted = Suspects()
        pairs: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        staging.create(self._session, self._plan)
        with self._session.transaction() as cursor:
            for keys in comparing.in_parts(found.in_source, KEYS_AT_ONCE):
                with self._rows_staged(cursor, source, keys):
                    known = target_hashes.known_pairs(cursor, staging.rows(self._plan), target.hashing, exact, None)
                    pairs[0].extend(known)
            known = target_hashes.known_pairs(cursor, target.relation, target.hashing, exact, found.in_target)
            pairs[1].extend(known)
        convicted = comparing.suspects(*pairs, one_of=self._one_of)
        # Under a key the hash of the row says what it is; without one, the exact hash is no name that Snowflake knows.
        return (
            convicted
            if keyed
            else Suspects(
                missing=set(found.missing) if convicted.missing_rows else set(),
                extra=set(found.extra) if convicted.extra_rows else set(),
                missing_rows=convicted.missing_rows,
                extra_rows=convicted.extra_rows,
            )
        )

    # --- telling ------------------------------------------------------------------------------------------------------

    def _told(
        self,
        verdict: TableVerdict,
        source: SourceRows,
        target: TargetSide,
        exact: Hashing,
        found: Suspects,
        *,
        found_by: Hashing,
    ) -> TableVerdict:
        try:
            verdict = self._with_kept(verdict, self._without_kept(source, found_by, found))
        except RejectedRowsError:
            if not self._load.rejected_rows:
                raise
        left_alone = found.extra_rows if self._keeps_others else 0
        if self._keeps_others:
            found.extra, found.extra_rows = set(), 0
        if not len(found) or self._are_all_rejected(source, found):
            return verdict.model_copy(update={"left_alone": left_alone})
        try:
            shown = self._shown(source, target, exact, found)
        except RejectedRowsError:
            if not self._load.rejected_rows:
                raise
            shown, verdict = (), verdict.model_copy(update={"reason": _NOT_SHOWN})
        return verdict.model_copy(
            update={
                "verdict": "different",
                "missing": found.missing_rows,
                "extra": found.extra_rows,
                "changed": len(found.changed),
                "left_alone": left_alone,
                "by_column": dict(Counter(column.column for row in shown for column in row.columns)),
                "differences": shown,
            }
        )

    def _are_all_rejected(self, source: SourceRows, found: Suspects) -> bool:
        """Whether just those rows are missing that the load rejected and that could not be told by their hashes."""
        if found.extra or found.changed or not 0 < found.missing_rows <= self._load.rejected_rows:
            return False
        told, known = dict(source.without), 0
        if told:
            copies = {int(row): int(count) for row, count in self._snowflake.aggregate(source.copies(told))}
            known = sum(min(count, copies.get(row, 0)) for row, count in told.items())
        return found.missing_rows == self._load.rejected_rows - known

    def _with_kept(self, verdict: TableVerdict, kept: int) -> TableVerdict:
        if self._plan.load_mode == "insert_only":
            return verdict
        if any(only_postgres_compares(column) for column in self._own_key):  # those that gave way are among them
            kept = max(0, kept - self._load.deduplicated_rows)
        since = kept - self._load.kept_newer_rows
        reason = (
            f"{counted(since, 'row')} of the target became newer than the source's after the load" if since > 0 else ""
        )
        return verdict.model_copy(update={"kept_newer": kept, "reason": reason})

    # --- what the target may keep -------------------------------------------------------------------------------------

    def _without_kept(self, source: SourceRows, found_by: Hashing, found: Suspects) -> int:
        """Take from the suspects the rows that a merge leaves alone; how many of the source's rows those are."""
        if not (self._keeps_rows and found.in_source):
            return 0
        kept = self._kept(source, found_by, found.in_source, found.extra)
        gone = {key: rows for key, rows in kept.items() if key in found.in_source}
        found.missing_rows -= sum(rows for key, rows in gone.items() if key in found.missing)
        found.missing -= gone.keys()
        if found.missing_rows <= 0:  # hashes that are not exact suspect more rows than values convict
            found.missing.clear()
        found.changed -= gone.keys()
        return sum(gone.values())

    def _kept(
        self, source: SourceRows, found_by: Hashing, keys: Collection[int], unmatched: Collection[int]
    ) -> dict[int, int]:
        can_fetch = bool(self._key) or not found_by.is_exact or _hashes_agree(self._compared)
        if not can_fetch or len(keys) > MOST_CONFIRMED:
            opener = Opener(self._snowflake, source, self._result_id)
            among_all = StagedSide(self._session, self._plan, found_by, opener).kept(unmatched)
            if not can_fetch:
                return among_all
            keys = [key for key in keys if key in among_all]
        kept: dict[int, int] = {}
        staging.create(self._session, self._plan)
        with self._session.transaction() as cursor:
            for part in comparing.in_parts(keys, KEYS_AT_ONCE):
                with self._rows_staged(cursor, source, part):
                    query = target_hashes.kept_query(self._plan, found_by, unmatched)
                    kept |= target_hashes.kept(fetch(cursor, query))
        return kept

    def _countable(self, target: TargetSide) -> TargetSide:
        """The rows to count: a row that is newer than all that was read may be the one that was kept."""
        if not self._keeps_rows or self._bounds() is None:
            return target
        if self._plan.load_mode == "insert_only":
            return replace(target, relation=target_hashes.target_rows(self._plan, None))
        return replace(target, relation=target_hashes.target_rows(self._plan, self._bounds(), and_newer=True))

    # --- showing ------------------------------------------------------------------------------------------------------

    def _shown(
        self, source: SourceRows, target: TargetSide, exact: Hashing, found: Suspects
    ) -> tuple[RowDifference, ...]:
        """Some of the differing rows, of each kind; of changed ones, each column's value on both sides."""
        limit = self._asked.shown
        finds_by = exact if self._asked.mode == "rows" and self._key else self._by_sql()
        rows: list[RowDifference] = []
        staging.create(self._session, self._plan)
        with self._session.transaction() as cursor:
            if self._key and found.changed:
                with self._rows_staged(cursor, source, sorted(found.changed)[:limit]):
                    rows += [
                        RowDifference(kind="changed", key=key, columns=_columns(columns))
                        for key, columns in target_hashes.side_by_side(cursor, self._plan, exact, limit=limit)
                    ]
            if found.missing and self._can_fetch():
                keys = sorted(found.missing)[:limit]
                with self._rows_staged(cursor, source, keys):
                    there = target_hashes.rows_as_text(cursor, self._plan, finds_by, keys, staged=True, limit=limit)
                    rows += [RowDifference(kind="missing", key=row) for row in there]
            if found.extra:
                keys = sorted(found.extra)[:limit]
                here = target_hashes.rows_as_text(cursor, self._plan, target.hashing, keys, staged=False, limit=limit)
                rows += [RowDifference(kind="extra", key=row) for row in here]
        return tuple(rows)

    def _can_fetch(self) -> bool:
        """Whether the hashes of suspects are ones by which Snowflake finds rows."""
        return bool(self._key) or self._asked.mode == "checksums" or _hashes_agree(self._compared)

    @contextmanager
    def _rows_staged(self, cursor: Cursor, source: SourceRows, keys: Collection[int]) -> Iterator[None]:
        result = self._snowflake.run(source.rows(keys))
        with staged(cursor, self._plan, result):
            yield

    # --- fixing ------------------------------------------------------------------------------------------------------

    def _repair(self, source: SourceRows) -> Repair:
        """Bring over what differs, in one transaction."""
        if self._asked.mode == "counts":
            raise DataError(
                f"table {self._plan.source}: counts do not say which rows differ; repair with --mode checksums"
            )
        if not self._key:
            why = "its key has no form that both servers share" if self._own_key else "no key tells its rows apart"
            raise DataError(f"table {self._plan.source} differs, and {why}; name uniqueness_columns, or load it again")
        suspects = self._suspects(source)
        if len(suspects) > MOST_REPAIRED:
            raise DataError(f"table {self._plan.source}: {len(suspects)} keys differ; load the table again")
        updated = inserted = deleted = 0
        staging.create(self._session, self._plan)
        with self._session.transaction() as cursor, code_of_targets(cursor, self._plan.code_path):
            if suspects.extra and not self._keeps_others:
                deleted = target_hashes.delete_extra(cursor, self._plan, self._by_sql(), suspects.extra)
            for keys in comparing.in_parts(suspects.in_source, KEYS_AT_ONCE):
                with self._rows_staged(cursor, source, keys):
                    changed, added = target_hashes.repair_from_staging(cursor, self._plan, self._key)
                updated, inserted = updated + changed, inserted + added
        return Repair(updated=updated, inserted=inserted, deleted=deleted)

    def _suspects(self, source: SourceRows) -> Suspects:
        """The keys to fix: those that differ by value."""
        target = TargetSide(self._session, target_hashes.target_rows(self._plan, self._bounds()), self._by_sql())
        rows = max(target.count(), 1)
        exact = replace(self._by_sql(), is_exact=True)
        if self._asked.mode == "rows":
            side = StagedSide(self._session, self._plan, exact, Opener(self._snowflake, source, self._result_id))
            found = comparing.locate(side, replace(target, hashing=exact), rows, one_of=self._one_of)
        else:
            found = comparing.locate(self._side(source), target, rows, one_of=self._one_of)
            found = self._convicted(source, target, exact, found) if self._not_exact else found
        self._without_kept(source, self._by_sql(), found)
        return found

    # --- what is compared ---------------------------------------------------------------------------------------------

    def _refuse_what_has_no_sense(self) -> None:
        if not self._plan.is_frozen:
            raise NotComparableError(
                "its source was allowed to move while it was read, so no state of it is known",
                "set chunking to one_scan and load it again, or set verification to off",
            )
        if self._asked.sample is not None and self._asked.mode == "rows" and not self._can_fetch_sample():
            raise NotComparableError("a sample of its rows needs a key", "name uniqueness_columns, or verify all rows")

    def _can_fetch_sample(self) -> bool:
        return bool(self._key) or _hashes_agree(self._compared)

    def _by_sql(self) -> Hashing:
        return Hashing(tuple(self._compared), self._key)

    def _every(self, rows: int) -> int:
        """One of how many keys is looked at: a power of two that leaves at least the sample."""
        if self._asked.sample is None or rows <= self._asked.sample:
            return 1
        return 1 << ((rows // max(1, self._asked.sample)).bit_length() - 1)

    @property
    def _result_id(self) -> str | None:
        """The query whose result has just the columns that are compared; with row numbers it has one more."""
        return None if self._plan.repeat_number else self._load.query_id

    def _bounds(self) -> WatermarkPlan | None:
        """The bounds of the target's rows that were moved; None where all of them count."""
        bounds = self._plan.watermark
        if bounds is None or self._asked.all_rows or self._plan.load_mode == "copy":
            return None
        # A target_watermark of another origin says nothing of what was read.
        carried = {column.target.name: column.source.name for column in self._plan.columns}
        return bounds if carried.get(bounds.target) == bounds.source else None


def _with_rows(verdict: TableVerdict, there: Tally, here: Tally, every: int) -> TableVerdict:
    return verdict.model_copy(
        update={"source_rows": there.rows, "target_rows": here.rows, "sampled": every if every > 1 else None}
    )


def _columns(columns: dict[str, tuple[str | None, str | None]]) -> tuple[ColumnDifference, ...]:
    return tuple(ColumnDifference(column=name, source=there, target=here) for name, (there, here) in columns.items())


def _form(column: ColumnPlan) -> forms.Form:
    return forms.form(column, quoted(column.target.name))


def _hashes_agree(columns: Collection[ColumnPlan]) -> bool:
    """Whether the exact hash of a row is the one that Snowflake computes."""
    return all(
        _form(column).is_exact and _form(column).target == forms.exact_in_postgres(column, quoted(column.target.name))
        for column in columns
    )
