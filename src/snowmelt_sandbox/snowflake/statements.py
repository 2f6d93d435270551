"""One statement: checked as Snowflake checks it, translated by fakesnow, run by DuckDB."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

import pyarrow as pa
from fakesnow.dialect import parse_one
from fakesnow.statement_type import SELECT, statement_type_id
from sqlglot import exp

from snowmelt_sandbox.snowflake import (
    account_parameters,
    broken,
    lineage,
    policies,
    query_history,
    result_scan,
    table_facts,
)
from snowmelt_sandbox.snowflake.catalog import Catalog, TableRef
from snowmelt_sandbox.snowflake.declared_types import (
    MOST_DIGITS,
    Column,
    of_arrow,
    of_duckdb,
    of_snowflake,
    stored_precision,
)
from snowmelt_sandbox.snowflake.errors import (
    SqlError,
    invalid_identifier,
    no_such_object,
    no_warehouse,
    out_of_quota,
    stale_view,
)
from snowmelt_sandbox.snowflake.functions import add_functions
from snowmelt_sandbox.snowflake.lineage import identifier_name
from snowmelt_sandbox.snowflake.sessions import Session
from snowmelt_sandbox.snowflake.time_travel import NO_PAST, Period, go_back, set_name, tables_changed

_ROWS_PER_READ = 50_000
_QUOTED = re.compile(
    r"""("(?:[^"]|"")*"|'(?:[^'\\]|\\.|'')*'|\$\$.*?\$\$|--[^\n]*|/\*.*?\*/|\b[A-Za-z_]\w*\$[\w$]*)""", re.DOTALL
)
"""Names, texts and comments: a dollar sign within them begins no variable."""
_NO_OPERATION = re.compile(
    r"\s*(grant|revoke|alter\s+warehouse|use\s+secondary|create\s+role|drop\s+role)\s", re.IGNORECASE
)
_RETENTION = re.compile(
    r"\s*alter\s+table\s+(\S+)\s+set\s+data_retention_time_in_days\s*=\s*(\d+)\s*;?\s*", re.IGNORECASE
)
_POLICY = re.compile(r"\s*(create|drop)\s+(or\s+replace\s+)?masking\s+policy\s", re.IGNORECASE)
_SET_POLICY = re.compile(
    r"\s*alter\s+table\s+(?P<table>\S+)\s+modify\s+column\s+(?P<column>\S+)\s+set\s+masking\s+policy\s+(?P<policy>\S+)",
    re.IGNORECASE,
)
_TIMES_WITH_SCALE = ("TIMESTAMPNTZ", "TIMESTAMPLTZ", "TIMESTAMPTZ", "TIMESTAMP", "TIME", "DATETIME")
_INTEGERS = ("INT", "BIGINT", "SMALLINT", "TINYINT")


@dataclass(frozen=True)
class Answer:
    """What a statement gives back: a stream of rows for a query, a small table for anything else."""

    columns: tuple[Column, ...]
    statement_type: int
    rows: Iterable[pa.RecordBatch] | None = None
    table: pa.Table | None = None
    result_of: str | None = None
    """The query id whose result is asked for again."""
    cancel: str | None = None
    """The query id that is to be cancelled."""
    changed_at: datetime | None = None
    """When the changes of a statement that is no query count as made, in UTC."""


@dataclass(frozen=True)
class Surroundings:
    """What a statement may look at besides its session."""

    catalog: Catalog
    account: str
    period: Period
    may_read: Callable[[str, TableRef], bool]
    open_result: Callable[[str, str], result_scan.Opened]
    """Of a query id and the user who asks."""
    keeps_copies: Callable[[], bool]
    window: Callable[[], timedelta | None]
    """How long ago a moment may be that a table is read as of, where the account says so."""
    warehouse_state: Callable[[str], str]
    """``running``, ``dropped`` or ``quota``."""
    history: Callable[[], Sequence[query_history.Entry]]
    """Of all statements that have ended."""
    policies: dict[str, policies.Policies]
    """What is set on tables, by their full names in lower case."""
    is_broken: broken.IsBroken
    """Whether the stand-in was told to break that assumption."""


class Statement:
    """A statement of a session, on a connection that nothing else uses meanwhile."""

    def __init__(self, sql: str, *, session: Session, connection: Any, around: Surroundings) -> None:
        self._session = session
        self._connection = connection
        self._duck = connection._duck_conn
        self._around = around
        self._sql = "".join(
            part if is_quoted else connection.variables.inline_variables(part)
            for part, is_quoted in zip(_QUOTED.split(sql), cycle((False, True)), strict=False)
        )
        self._parsed: Any = None
        self._scanned: dict[str, list[Column]] = {}

    def run(self, bindings: Any = None) -> Answer:
        """Run the statement; errors of any kind are left to the caller to translate."""
        if self._session.alter(self._sql) or _NO_OPERATION.match(self._sql):
            return _status("Statement executed successfully.")
        if kept := _RETENTION.fullmatch(self._sql):
            return self._keep_for(kept[1], int(kept[2]))
        if _POLICY.match(self._sql) or self._set_policy():
            return _status("Statement executed successfully.")
        self._parsed = parsed = self._read()
        self._require_warehouse()
        if asked := _result_scan(parsed):
            return Answer((), SELECT, result_of=asked)
        if cancelled := _cancel_query(parsed):
            return Answer((), SELECT, cancel=cancelled)
        copies = self._around.catalog.copies
        goes_back = parsed.find(exp.HistoricalData) is not None
        self._check_and_resolve()
        if isinstance(parsed, exp.Describe) and str(parsed.args.get("kind", "")).upper() in ("TABLE", "VIEW"):
            return self._describe(parsed.this)
        if isinstance(parsed, exp.Query):
            reader, answer = self._query(bindings)
            if goes_back and self._around.catalog.copies != copies:
                # A table that was changed in between would be read as it is, and not as it was.
                reader.close()
                answer = self.run(bindings)
            return answer
        started = datetime.now(UTC).replace(tzinfo=None)
        return replace(self._change(bindings, started), changed_at=started)

    def describe(self) -> tuple[tuple[Column, ...], int]:
        """The columns the statement would give, without running it."""
        self._parsed = self._read()
        kind = statement_type_id(self._parsed)
        if not isinstance(self._parsed, exp.Query):
            return (Column("status", of_duckdb("VARCHAR")),), kind
        self._check_and_resolve()
        for placeholder in list(self._parsed.find_all(exp.Placeholder)):
            placeholder.replace(exp.null())
        columns = self._columns_of(self._relation(None))
        if self._around.is_broken("types-are-described"):
            columns = tuple(
                replace(c, type=replace(c.type, precision=MOST_DIGITS)) if c.type.kind == "fixed" else c
                for c in columns
            )
        return columns, kind

    def _keep_for(self, name: str, days: int) -> Answer:
        exact = self._named(name)
        self._around.catalog.keep_for(exact, days)
        self._around.catalog.altered([exact])
        return _status("Statement executed successfully.")

    def _named(self, name: str) -> TableRef:
        """Return the table of that name, as SQL writes it."""
        exact = self._around.catalog.find(self._duck, self._ref(exp.to_table(name, dialect="snowflake")))
        if exact is None:
            raise no_such_object(name)
        return exact

    def _require_warehouse(self) -> None:
        """Refuse what reads a table where the session has no warehouse that runs; results need none."""
        if not isinstance(self._parsed, exp.Query) or self._parsed.find(exp.Table) is None:
            return
        match self._around.warehouse_state(self._session.warehouse):
            case "dropped":
                raise no_warehouse()
            case "quota":
                raise out_of_quota(self._session.warehouse)

    def _read(self) -> Any:
        """Parse the statement as the session's parameters have it."""
        parsed = parse_one(self._sql)
        if self._session.holds("QUOTED_IDENTIFIERS_IGNORE_CASE"):
            account_parameters.fold_quoted_names(parsed)
        formats = {kind: self._session.parameter(f"{kind}_INPUT_FORMAT") for kind in ("DATE", "TIMESTAMP", "TIME")}
        account_parameters.read_literals(parsed, formats)
        account_parameters.read_formats(parsed)
        return parsed

    # --- before --------------------------------------------------------------------------------------------------

    def _check_and_resolve(self) -> None:
        state = self._around.warehouse_state(self._session.warehouse)
        _name_session(self._parsed, self._session, self._around.account, state)
        self._scanned = result_scan.register(
            self._parsed,
            duck=self._duck,
            open_result=lambda query_id: self._around.open_result(query_id, self._session.user.name),
        ) | query_history.register(
            self._parsed, duck=self._duck, user=self._session.user.name, entries=self._around.history
        )
        self._scanned |= table_facts.register(
            self._parsed,
            duck=self._duck,
            database=str(self._connection.database or ""),
            catalog=self._around.catalog,
            may_read=lambda asked: self._around.may_read(self._session.user.name, asked),
            too_many=1 if self._around.is_broken("rows-are-counted") else 0,
        )
        self._scanned |= policies.register(
            self._parsed, duck=self._duck, resolve=self._named, policies=self._policies_of
        )
        broken.forget_moments(self._parsed, self._around.is_broken, self._is_view)
        try:
            go_back(
                self._parsed,
                catalog=self._around.catalog,
                duck=self._duck,
                resolve=self._ref,
                period=self._around.period,
                window=self._around.window(),
            )
        except SqlError as error:
            if error.errno != NO_PAST or not self._around.is_broken("no-rows-beyond-the-past"):
                raise
            for table in self._parsed.find_all(exp.Table):
                table.set("when", None)
        self._check_names()

    def _is_view(self, table: exp.Table) -> bool:
        exact = self._around.catalog.find(self._duck, self._ref(table))
        return exact is not None and self._around.catalog.view_query(exact) is not None

    def _check_names(self) -> None:
        """Refuse what DuckDB would forgive: a name in the wrong case, a table the user may not read."""
        ctes = {identifier_name(c.args["alias"].this) for c in self._parsed.find_all(exp.CTE)}
        known: set[str] = set()
        for table in self._parsed.find_all(exp.Table):
            if not isinstance(table.this, exp.Identifier) or (
                not table.args.get("db") and identifier_name(table.this) in ctes
            ):
                continue
            if identifier_name(table.this) in self._scanned:
                known.update(c.name for c in self._scanned[identifier_name(table.this)])
                continue
            asked = self._ref(table)
            is_made_role = self._session.role not in broken.MADE_BY_SNOWFLAKE
            withheld = is_made_role and self._around.is_broken("reading-grants-suffice")
            if withheld or not self._around.may_read(self._session.user.name, asked):
                raise no_such_object(_as_written(table))
            exact = self._around.catalog.find(self._duck, asked)
            if exact is None:
                continue
            width = self._around.catalog.declared_width(exact)
            columns = self._around.catalog.columns(self._duck, exact)
            if width and columns and width != len(columns) and not isinstance(self._parsed, exp.Create | exp.Drop):
                raise stale_view(str(exact), declared=width, produced=len(columns))
            if exact.name != asked.name and not isinstance(self._parsed, exp.Create):
                raise no_such_object(_as_written(table))
            known.update(c.name for c in columns)
        self._check_columns(known)

    def _check_columns(self, known: set[str]) -> None:
        aliases = {identifier_name(a.args["alias"]) for a in self._parsed.find_all(exp.Alias)}
        for alias in self._parsed.find_all(exp.TableAlias):
            aliases.update(identifier_name(c) for c in alias.args.get("columns") or ())
        folded = {name.lower() for name in known}
        for column in self._parsed.find_all(exp.Column):
            name = identifier_name(column.this)
            if name.lower() in folded and name not in known | aliases:
                raise invalid_identifier(f'"{name}"' if column.this.quoted else name)

    def _ref(self, table: exp.Table) -> TableRef:
        database = table.args.get("catalog")
        schema = table.args.get("db")
        return TableRef(
            identifier_name(database) if database else str(self._connection.database or ""),
            identifier_name(schema) if schema else str(self._connection.schema or ""),
            identifier_name(table.this),
        )

    def _lookup(self, table: exp.Table) -> list[Column] | None:
        if not isinstance(table.this, exp.Identifier):
            return None
        if scanned := self._scanned.get(identifier_name(table.this)):
            return scanned
        return self._around.catalog.columns(self._duck, self._ref(table)) or None

    # --- queries -------------------------------------------------------------------------------------------------

    def _query(self, bindings: Any) -> tuple[Any, Answer]:
        relation = self._relation(bindings)
        columns = self._columns_of(relation)
        if most := self._session.number("ROWS_PER_RESULTSET"):
            relation = relation.limit(most)
        reader = relation.to_arrow_reader(_ROWS_PER_READ)
        return reader, Answer(columns, SELECT, rows=reader)

    def _relation(self, bindings: Any) -> Any:
        prepared = self._parsed.copy()
        _name_columns(prepared)
        broken.rewrite(prepared, self._around.is_broken)
        _generate(prepared)
        _simplify_types(prepared)
        add_functions(prepared)
        cursor = self._connection.cursor()
        cursor.check_db_and_schema(prepared)
        translated = cursor._transform(prepared, bindings)
        if seed := translated.args.get("seed"):
            self._duck.execute(f"select setseed({seed})")
        return self._duck.sql(translated.sql(dialect="duckdb"), params=bindings)

    def _columns_of(self, relation: Any) -> tuple[Column, ...]:
        stored = [of_duckdb(str(t)) for t in relation.types]
        declared = lineage.columns_of(self._parsed, self._lookup)
        if declared is None or len(declared) != len(stored):
            declared = [None] * len(stored)
        in_upper_case = self._around.is_broken("quoted-names-stay")
        return tuple(
            Column(
                name.upper() if in_upper_case else name,
                known.type if known and known.type.accepts(own) else own,
                known.nullable if known else True,
            )
            for name, own, known in zip(relation.columns, stored, declared, strict=True)
        )

    def _set_policy(self) -> bool:
        """Remember that a column has a masking policy; says whether the statement is about that. Nothing is masked."""
        found = _SET_POLICY.match(self._sql)
        if found is None:
            return False
        table = self._ref(exp.to_table(found["table"], dialect="snowflake"))
        column = found["column"]
        exact = column[1:-1] if column.startswith('"') else column.upper()
        known, policy = self._policies_of(table), found["policy"].rpartition(".")[2].strip('"')
        self._around.policies[str(table).lower()] = replace(known, masking={**known.masking, exact: policy})
        return True

    def _policies_of(self, table: TableRef) -> policies.Policies:
        return self._around.policies.get(str(table).lower(), policies.Policies())

    def _describe(self, table: exp.Table) -> Answer:
        exact = self._around.catalog.find(self._duck, self._ref(table))
        columns = self._around.catalog.columns(self._duck, self._ref(table))
        if exact is None or not columns:
            raise no_such_object(_as_written(table))
        names = ("name", "type", "kind", "null?", "default", "primary key", "unique key", "check", "expression",
                 "comment", "policy name", "privacy domain")  # fmt: skip
        masked = {} if self._around.is_broken("policies-are-described") else self._policies_of(exact).masking
        rows = [
            [
                c.name,
                c.type.sql(),
                "COLUMN",
                "Y" if c.nullable else "N",
                None,
                "N",
                "N",
                None,
                None,
                None,
                masked.get(c.name),
                None,
            ]
            for c in columns
        ]
        text = pa.schema([pa.field(n, pa.string()) for n in names])
        described = pa.Table.from_pylist([dict(zip(names, r, strict=True)) for r in rows], schema=text)
        return Answer(_columns_of_table(described), statement_type_id(self._parsed), table=described)

    # --- everything else -----------------------------------------------------------------------------------------

    def _change(self, bindings: Any, started: datetime) -> Answer:
        changed = [self._ref(table) for table in tables_changed(self._parsed)]
        if isinstance(self._parsed, exp.Create) and self._parsed.args.get("kind") == "TABLE":
            changed.append(self._ref(_target(self._parsed)))
        pending: set[TableRef] = self._connection.__dict__.setdefault("snowmelt_changing", set())
        pending.update(changed)
        self._around.catalog.altering(changed)
        try:
            return self._changed(bindings, started)
        finally:
            if not self._is_in_transaction():  # until its COMMIT, nobody knows when it is going to be seen
                self._around.catalog.altered(pending)
                pending.clear()

    def _is_in_transaction(self) -> bool:
        """Whether what was changed waits for a COMMIT; fakesnow counts no BEGIN of a session that commits by itself."""
        own = self._connection.__dict__
        if isinstance(self._parsed, exp.Transaction | exp.Commit | exp.Rollback):
            own["snowmelt_begun"] = isinstance(self._parsed, exp.Transaction)
        return bool(own.get("snowmelt_begun") or self._connection._in_transaction)

    def _changed(self, bindings: Any, started: datetime) -> Answer:
        parsed = self._parsed
        kind = statement_type_id(parsed)
        if self._around.keeps_copies():
            for table in tables_changed(parsed):
                self._around.catalog.keep_copy(self._ref(table), started)
        creates = isinstance(parsed, exp.Create) and parsed.args.get("kind") in ("TABLE", "VIEW")
        created = self._created_columns() if creates else None
        existed = creates and self._around.catalog.find(self._duck, self._ref(_target(parsed))) is not None
        prepared = parsed.copy()
        _simplify_types(prepared)
        add_functions(prepared)
        cursor = self._connection.cursor()
        cursor.check_db_and_schema(prepared)
        for part in cursor._transform_explode(prepared):
            translated = cursor._transform(part, bindings)
            cursor._execute(translated, bindings if translated.find(exp.Placeholder) else None)
        if creates and not (existed and parsed.args.get("exists")):
            self._record_creation(self._ref(_target(parsed)), created or [], started)
        self._follow(parsed)
        answer = cursor._arrow_table
        if answer is None:
            return _status("Statement executed successfully.")
        return Answer(_columns_of_table(answer), kind, table=answer)

    def _record_creation(self, table: TableRef, columns: list[Column], moment: datetime) -> None:
        self._around.catalog.declare(table, columns)
        self._around.catalog.born(table, moment)
        if self._parsed.args.get("kind") == "VIEW":
            query = self._parsed.expression.copy()
            ctes = {identifier_name(c.args["alias"].this) for c in query.find_all(exp.CTE)}
            for read in query.find_all(exp.Table):
                if isinstance(read.this, exp.Identifier) and (
                    read.args.get("db") or identifier_name(read.this) not in ctes
                ):
                    set_name(read, self._ref(read))
            self._around.catalog.define_view(table, query.sql(dialect="snowflake"))
            if width := len(self._around.catalog.columns(self._duck, table)):
                self._around.catalog.declare_width(table, width)

    def _created_columns(self) -> list[Column]:
        """The columns of the table or view that is being created, as far as their types are known."""
        target = self._parsed.this
        if isinstance(target, exp.Schema):
            defined = [_defined(c) for c in target.expressions if isinstance(c, exp.ColumnDef)]
            if any(defined):
                return [c for c in defined if c]
        if clone := self._parsed.args.get("clone"):
            return self._lookup(clone.this) or []
        if self._parsed.expression is None:
            return []
        known = lineage.columns_of(self._parsed.expression, self._lookup) or []
        columns = [c for c in known if c]
        if isinstance(target, exp.Schema) and len(known) == len(target.expressions):
            names = [identifier_name(n.this if isinstance(n, exp.ColumnDef) else n) for n in target.expressions]
            columns = [Column(name, c.type) for name, c in zip(names, known, strict=True) if c]
        return [c for c in columns if c.name]

    def _follow(self, parsed: Any) -> None:
        """Keep the catalog in step with ALTER and DROP."""
        catalog = self._around.catalog
        if isinstance(parsed, exp.Drop) and str(parsed.args.get("kind")).upper() in ("TABLE", "VIEW"):
            for dropped in parsed.args.get("tables") or ():
                catalog.declare(self._ref(dropped), [])
                catalog.gone(self._ref(dropped))
        if not isinstance(parsed, exp.Alter) or parsed.args.get("kind") != "TABLE":
            return
        table = self._ref(parsed.this)
        for action in parsed.args.get("actions") or ():
            if isinstance(action, exp.ColumnDef) and (column := _defined(action)):
                catalog.declare(table, [column], replace=False)
            elif isinstance(action, exp.AlterRename):
                catalog.rename(table, self._ref(action.this))
            elif isinstance(action, exp.RenameColumn):
                old, new = identifier_name(action.this.this), identifier_name(action.args["to"].this)
                catalog.rename_column(table, old, new)


def _status(text: str) -> Answer:
    table = pa.table({"status": [text]})
    return Answer(_columns_of_table(table), 0, table=table)


def _columns_of_table(table: pa.Table) -> tuple[Column, ...]:
    return tuple(Column(f.name, of_arrow(f.type)) for f in table.schema)


def _target(create: Any) -> exp.Table:
    target = create.this.this if isinstance(create.this, exp.Schema) else create.this
    if not isinstance(target, exp.Table):
        raise SqlError(1003, "42000", "SQL compilation error:\nsyntax error: no table name after CREATE")
    return target


def _defined(definition: exp.ColumnDef) -> Column | None:
    kind = definition.args.get("kind")
    declared = of_snowflake(kind) if isinstance(kind, exp.DataType) else None
    return Column(identifier_name(definition.this), declared) if declared else None


def _as_written(table: exp.Table) -> str:
    parts = [table.args.get(k) for k in ("catalog", "db", "this")]
    return ".".join(f'"{p.this}"' if p.quoted and p.this != p.this.upper() else identifier_name(p) for p in parts if p)


def _result_scan(parsed: Any) -> str | None:
    """The query id of ``SELECT * FROM TABLE(RESULT_SCAN('…'))``, whose result is the very same one."""
    calls = [c for c in parsed.find_all(exp.Anonymous) if c.name.upper() == "RESULT_SCAN"]
    source = parsed.args.get("from_")
    plain = (
        len(calls) == 1
        and isinstance(parsed, exp.Select)
        and len(parsed.expressions) == 1
        and isinstance(parsed.expressions[0], exp.Star)
        and source is not None
        and isinstance(source.this, exp.TableFromRows)
        and not any(parsed.args.get(k) for k in ("where", "joins", "order", "limit", "group"))
    )
    if not plain or not calls[0].expressions or not isinstance(calls[0].expressions[0], exp.Literal):
        return None
    return str(calls[0].expressions[0].this)


def _cancel_query(parsed: Any) -> str | None:
    for call in parsed.find_all(exp.Anonymous):
        if call.name.upper() == "SYSTEM$CANCEL_QUERY" and call.expressions:
            return str(call.expressions[0].name)
    return None


def _name_session(parsed: Any, session: Session, account: str, warehouse_state: str) -> None:
    """Put the session's own answers in place of the context functions."""
    answers = {
        "CURRENT_WAREHOUSE": None if warehouse_state == "dropped" else session.warehouse,
        "CURRENT_ROLE": session.role,
        "CURRENT_USER": session.user.name.upper(),
        "CURRENT_ACCOUNT": account.upper(),
        "CURRENT_SESSION": str(session.session_id),
        "CURRENT_REGION": "LOCAL",
        "LAST_QUERY_ID": session.last_query_id,
    }
    for node in list(parsed.find_all(exp.Func)):
        name = node.name if isinstance(node, exp.Anonymous) else node.sql_name()
        if str(name).upper() in answers:
            value = answers[str(name).upper()]
            literal = exp.null() if value is None else exp.Literal.string(value)
            in_select = isinstance(node.parent, exp.Select) and node.arg_key == "expressions"
            node.replace(exp.alias_(literal, f"{str(name).upper()}()", quoted=True) if in_select else literal)


def _name_columns(query: Any) -> None:
    """Give unnamed columns of the outermost query the name Snowflake gives them: their own text."""
    outer = query
    while isinstance(outer, exp.SetOperation | exp.Subquery):
        outer = outer.this
    if not isinstance(outer, exp.Select):
        return
    unnamed = [e for e in outer.expressions if not isinstance(e, exp.Alias | exp.Column | exp.Star)]
    for expression in unnamed:
        name = expression.sql(dialect="snowflake")
        named = name if isinstance(expression, exp.Literal) else name.upper()
        if isinstance(expression, exp.Func | exp.Literal | exp.Binary | exp.Paren | exp.Null | exp.Boolean | exp.Neg):
            expression.replace(exp.alias_(expression.copy(), named, quoted=True))


def _generate(query: Any) -> None:
    """Give a row generator that is limited by its time some rows; the time itself is waited for elsewhere."""
    for node in query.find_all(exp.Generator):
        if node.args.get("timelimit") is not None:
            node.set("timelimit", None)
            node.set("rowcount", node.args.get("rowcount") or exp.Literal.number(1000))


_MICROSECOND_DIGITS = 6


def _cut_digits(cast: Any, digits: int) -> None:
    """Cut a time that is cast to fewer digits of a second, as Snowflake does; DuckDB's types do not know digits."""
    is_time = cast.to.this.name == "TIME"
    if not is_time and cast.to.this.name not in ("TIMESTAMP", "TIMESTAMPNTZ"):
        return
    unit = exp.Literal.number(10 ** (_MICROSECOND_DIGITS - digits))
    count = exp.Anonymous(this="epoch_us", expressions=[cast.copy()])
    rest = exp.Paren(
        this=exp.Mod(
            this=exp.Paren(this=exp.Add(this=exp.Mod(this=count, expression=unit), expression=unit)), expression=unit
        )
    )  # never negative, also before 1970
    whole = exp.Paren(this=exp.Sub(this=count.copy(), expression=rest))
    if is_time:
        midnight = exp.cast(exp.Literal.string("00:00:00"), "TIME")
        cast.replace(exp.Add(this=midnight, expression=exp.Anonymous(this="to_microseconds", expressions=[whole])))
    else:
        cast.replace(exp.Anonymous(this="make_timestamp", expressions=[whole]))


def _simplify_types(statement: Any) -> None:
    """Types as DuckDB stores them; the declared ones live in the catalog."""
    for data_type in list(statement.find_all(exp.DataType)):
        name = data_type.this.name
        if name in ("GEOGRAPHY", "GEOMETRY"):
            data_type.replace(exp.DataType.build("VARCHAR"))
        elif name in _TIMES_WITH_SCALE:
            digits = [int(p.name) for p in data_type.expressions if isinstance(p, exp.DataTypeParam)]
            data_type.set("expressions", [])
            if digits and digits[0] < _MICROSECOND_DIGITS and isinstance(data_type.parent, exp.Cast):
                _cut_digits(data_type.parent, digits[0])
            if name == "TIMESTAMPLTZ":
                data_type.set("this", exp.DataType.Type.TIMESTAMPTZ)
        elif name in ("BINARY", "VARBINARY"):
            data_type.set("expressions", [])
        elif name == "DECIMAL" and len(sizes := data_type.expressions) == 2:
            precision, scale = (int(size.name) for size in sizes)
            sizes[0].set("this", exp.Literal.number(stored_precision(precision, scale)))
