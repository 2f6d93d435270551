"""What about a target stands against its load, and what the load would set off; from facts that are there already."""

from collections.abc import Iterator

from snowmelt.columns.type_pairs import quoted
from snowmelt.config import TableConfig
from snowmelt.findings import Finding, Place, sql_name
from snowmelt.models import TableName
from snowmelt.planning.load_mode import Loading
from snowmelt.postgres.facts import TableFacts
from snowmelt.postgres.tables import TargetTable


def unusable(place: Place, table: TableConfig, target: TargetTable | None, where: str) -> Iterator[Finding]:
    """Why nothing can be loaded into the target, whatever its columns are."""
    here = f"the target {place.target}"
    if target is None:
        yield place.error(
            "target_missing",
            f"{here} is not there in {where}",
            "create it (`snowmelt schema ddl --apply` does), or fix target and target_pg_schema",
            fix=(f"snowmelt schema ddl --apply --tables '{table.source}'",),
        )
        return
    if not target.is_table:
        yield place.error("target_kind", f"{here} is not a table", "name a table as the target")
        return
    wanted = {
        "USAGE on its schema": target.may_use_schema,
        "INSERT": target.may_insert,
        "SELECT": target.may_select,
        "TRUNCATE": target.may_truncate or not table.truncate_onstart,
    }
    lacking = [privilege for privilege, there in wanted.items() if not there]
    if lacking:
        grants = _grants(target, [p for p in lacking if not p.startswith("USAGE")])
        yield place.error(
            "target_privileges",
            f"{here} may not be loaded by this user",
            " ".join(grants),
            fix=grants,
        )


def _grants(target: TargetTable, privileges: list[str]) -> tuple[str, ...]:
    role = quoted(target.role)
    schema = () if target.may_use_schema else (f"GRANT USAGE ON SCHEMA {quoted(target.name.schema_name)} TO {role};",)
    table = (f"GRANT {', '.join(privileges)} ON {sql_name(target.name)} TO {role};",) if privileges else ()
    return (*schema, *table)


def consequences(
    place: Place, table: TableConfig, loading: Loading, target: TargetTable, facts: TableFacts, *, is_staged: bool
) -> Iterator[Finding]:
    """What about the target forbids the load, and what the load would set off."""
    here, role = f"the target {place.target}", quoted(target.role)
    if loading.load_mode == "upsert" and not target.may_update:
        yield place.error(
            "target_privileges",
            f"{here} may not be merged into by this user",
            " ".join(_grants(target, ["UPDATE"])),
            fix=_grants(target, ["UPDATE"]),
        )
    if facts.has_row_security:
        yield place.error(
            "row_security",
            f"{here} has row-level security, under which COPY is refused",
            "load as its owner, as on RDS nobody is a superuser who could give BYPASSRLS"
            if facts.is_on_rds
            else "load as its owner, or as a user with BYPASSRLS",
            fix=(place.alter(f"OWNER TO {role}") if facts.is_on_rds else f"ALTER ROLE {role} BYPASSRLS;",),
        )
    if facts.is_unlogged:
        yield place.error(
            "unlogged",
            f"{here} is unlogged: a crash of the server would empty it, and rows marked as loaded would be gone",
            f"ALTER TABLE {place.target} SET LOGGED",
            fix=(place.alter("SET LOGGED"),),
        )
    if facts.is_partitioned and not facts.children:
        yield place.error(
            "partitions",
            f"{here} is partitioned and has no partition, so no row has a place",
            "create its partitions, or one for all rows",
            fix=(f"CREATE TABLE {_beside(target.name, '_default')} PARTITION OF {sql_name(target.name)} DEFAULT;",),
        )
    yield from _unique(place, table, target)
    if is_staged and facts.rules:
        yield place.error(
            "rules",
            f"{here} has rules ({', '.join(facts.rules)}), which rows from a staging table would set off",
            "drop them for the load",
            fix=tuple(place.alter(f"DISABLE RULE {quoted(rule)}") for rule in facts.rules),
        )
    if table.disable_index:
        yield from _indexes(place, facts, role)
    yield from _set_off(place, table, loading, facts)


def _unique(place: Place, table: TableConfig, target: TargetTable) -> Iterator[Finding]:
    """Unique indexes of which only PostgreSQL can say which rows they refuse."""
    most = table.max_rejected_rows or 0
    for index in target.unique_indexes:
        if index.is_of_columns:
            continue
        kinds = {
            "is partial": index.is_partial,
            "is on an expression": index.is_on_expression,
            "is of a partition alone": index.is_of_partition,
        }
        what = " and ".join(kind for kind, applies in kinds.items() if applies)
        becomes = (
            "it is dropped for the load, and cannot be built again where two rows of it are alike"
            if table.disable_index
            else f"rows that it refuses are rejected, where max_rejected_rows is {most}"
        )
        yield place.warning(
            "unique_unknown",
            f"the unique index {index.name} of the target {place.target} {what}, so only PostgreSQL can say which rows "
            f"it refuses: {becomes} ({index.definition})",
            "make sure that no two rows of the source are alike to it, or set max_rejected_rows",
        )


def _indexes(place: Place, facts: TableFacts, role: str) -> Iterator[Finding]:
    here, keep = f"the target {place.target}", place.line("disable_index", False)
    if not facts.is_owned:
        yield place.error(
            "index_owner",
            f"{here} belongs to another user, so disable_index cannot drop its indexes",
            "load as its owner, or set disable_index to false",
            fix=(place.alter(f"OWNER TO {role}"), keep),
        )
    schema = quoted(place.target.schema_name)
    if not facts.may_create_beside_it:
        yield place.error(
            "index_owner",
            f"{here} is in a schema where this user may not create, so indexes that disable_index drops could not be "
            "built again",
            f"GRANT CREATE ON SCHEMA {schema}, or set disable_index to false",
            fix=(f"GRANT CREATE ON SCHEMA {schema} TO {role};", keep),
        )
    if facts.is_partitioned:
        yield place.warning(
            "index_partitioned",
            f"{here} is partitioned, whose indexes are kept: disable_index has no effect",
            fix=(keep,),
        )


def _set_off(place: Place, table: TableConfig, loading: Loading, facts: TableFacts) -> Iterator[Finding]:
    here = f"the target {place.target}"
    triggers = dict.fromkeys(facts.insert_triggers + (facts.update_triggers if loading.load_mode == "upsert" else ()))
    if triggers:
        yield place.warning(
            "triggers",
            f"{here} has triggers that fire for every row: {', '.join(triggers)}",
            "disable them if they are not meant for a load",
            fix=tuple(place.alter(f"DISABLE TRIGGER {quoted(name)}") for name in triggers),
        )
    if table.truncate_onstart and facts.truncate_triggers:
        yield place.warning(
            "triggers",
            f"{here} has triggers on TRUNCATE: {', '.join(facts.truncate_triggers)}",
            fix=tuple(place.alter(f"DISABLE TRIGGER {quoted(name)}") for name in facts.truncate_triggers),
        )
    if table.truncate_onstart and facts.children:
        yield place.warning("inheritance", f"{here} is truncated with what belongs to it: {', '.join(facts.children)}")


def _beside(name: TableName, ending: str) -> str:
    return sql_name(TableName(schema_name=name.schema_name, name=f"{name.name[:50]}{ending}"))
