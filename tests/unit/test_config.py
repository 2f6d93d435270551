"""The config: what it accepts, what it says about the rest, what a run remembers of it."""

import json
import random
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from snowmelt import config as configs
from snowmelt.config import Config, PostgresConfig, TableConfig, ValuePolicies, names, placeholders
from snowmelt.config.checks import contradictions
from snowmelt.config.fallbacks import variable
from snowmelt.config.problems import LEVELS, meant_by
from snowmelt.errors import ConfigError
from snowmelt.models import Policies

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
TEN_MISTAKES = (ROOT / "tests" / "fixtures" / "config" / "ten_mistakes.json").read_text(encoding="utf-8")

Tree = dict[str, Any]


def tree(*tables: Tree, **settings: Any) -> Tree:
    """A whole config with one source and the given tables."""
    return {
        "snowflake": {"account": "org-acc", "user": "LOADER", "password": "pw"},
        "postgres": {"host": "localhost", "user": "loader"},
        "sources": [source(*(tables or ({"source": "FLIGHTS"},)))],
        **settings,
    }


def source(*tables: Tree, name: str = "flights", **settings: Any) -> Tree:
    return {
        "source_name": name,
        "source_sf_database": "nyc",
        "source_sf_schema": "public",
        "target_pg_database": "NYC",
        "target_pg_schema": "Public",
        "tables": list(tables),
        **settings,
    }


def load(given: Tree, **environment: str) -> Config:
    return configs.load(json.dumps(given), environment, where="config.json")


def problems(given: Tree, **environment: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(given, **environment)
    return caught.value.problems


def table_of(**settings: Any) -> TableConfig:
    return load(tree({"source": "FLIGHTS", **settings})).sources[0].tables[0]


# --- what is accepted -----------------------------------------------------------------------------------------------


def test_what_is_left_out_has_its_default() -> None:
    config = load(tree())

    assert config.parallel_threads == 4
    assert config.batch_size == 500_000
    assert config.max_retry_attempts == 3
    assert config.lambda_timeout_buffer_seconds == 90
    assert config.resume_max_age == timedelta(days=7)
    assert config.postgres.port == 5432
    assert config.sources[0].tables[0] == TableConfig(source="FLIGHTS")


def test_null_and_empty_text_count_as_absent() -> None:
    table = table_of(
        enabled=None, target="", source_filter=None, chunking_columns=None, disable_index=False, sort_columns=[]
    )

    assert table == TableConfig(source="FLIGHTS")


@pytest.mark.parametrize(
    ("written", "age"),
    [
        ("7d", timedelta(days=7)),
        ("12h", timedelta(hours=12)),
        ("1.5h", timedelta(minutes=90)),
        ("90m", timedelta(minutes=90)),
        ("P1DT1H", timedelta(hours=25)),
        ("3600s", timedelta(hours=1)),
        ("0h", timedelta(0)),
    ],
)
def test_an_age_is_written_in_units_or_as_iso_8601(written: object, age: timedelta) -> None:
    assert load(tree(resume_max_age=written)).resume_max_age == age


@pytest.mark.parametrize("written", ["soon", "-1d", -1, True, "999999999w", 1e300, [7], 168, "168", " 1.5 "])
def test_an_age_that_is_none_is_refused(written: object) -> None:
    assert [problem.split(":")[0] for problem in problems(tree(resume_max_age=written))] == ["resume_max_age"]


@pytest.mark.parametrize(
    ("host", "sslmode"),
    [
        ("db.example.com", "verify-full"),
        ("10.0.0.7", "verify-full"),
        ("localhost.example.com", "verify-full"),
        ("localhost", "prefer"),
        ("127.0.0.9", "prefer"),
        ("::1", "prefer"),
        ("/var/run/postgresql", "prefer"),
        ("/tmp,db.example.com", "verify-full"),
        ("localhost,db.example.com", "verify-full"),
        ("db.example.com,/tmp", "verify-full"),
        ("127.0.0.1,::1,/tmp", "prefer"),
        ("127.0.0.1,", "verify-full"),
    ],
)
def test_certificates_are_checked_unless_the_server_is_on_this_machine(host: str, sslmode: str) -> None:
    assert PostgresConfig(host=host, user="loader").sslmode == sslmode


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_http_is_for_this_machine(host: str) -> None:
    given = tree(snowflake={"account": "a", "user": "u", "password": "p", "protocol": "http", "host": host})
    assert load(given).snowflake.protocol == "http"


@pytest.mark.parametrize("host", ["snowflake.example.com", "10.0.0.7", "localhost.a.b", "127.0.0.1,evil.com", None])
def test_http_to_any_other_host_is_refused(host: str | None) -> None:
    section = {"account": "org-acc", "user": "LOADER", "password": "pw", "protocol": "http"}
    (found,) = problems(tree(snowflake=section | ({"host": host} if host else {})))
    assert found.startswith("snowflake.protocol: http sends credentials and rows in the clear, so it is for a stand-in")
    (found,) = problems(
        tree(snowflake={"account": "org-acc", "user": "LOADER", "password": "pw", "host": host or "a.b"}),
        SNOWFLAKE_PROTOCOL="http",
    )
    assert "in the clear" in found


@pytest.mark.parametrize(
    ("section", "key"),
    [
        *(
            ("postgres", key)
            for key in ("sslmode", "port", "host", "user", "sslrootcert", "status_schema", "status_schema_owner")
        ),
        *(("snowflake", key) for key in ("protocol", "port", "statement_timeout_seconds", "private_key_path", "role")),
    ],
)
def test_nothing_that_may_be_a_secret_is_quoted_back(section: str, key: str) -> None:
    for secret in ("pl4nted-p4ss", 471147114711, ["pl4nted-p4ss"]):
        given = tree()
        given[section][key] = secret
        said = _said_of(given)
        assert "pl4nted" not in said
        assert "471147114711" not in said or key in ("port", "statement_timeout_seconds")


def _said_of(given: Tree) -> str:
    try:
        load(given)
    except ConfigError as error:
        return error.message
    return ""


def test_the_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load(tree()).batch_size = 1  # type: ignore[misc]


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "snowflake", "postgres"),
    [
        ("FLIGHTS", "FLIGHTS", "flights"),
        ("flights", "FLIGHTS", "flights"),
        ('"multipayer_payer"', "multipayer_payer", "multipayer_payer"),
        ('"Plane Details"', "Plane Details", "Plane Details"),
        ('"a ""b"" c"', 'a "b" c', 'a "b" c'),
        ('"dotted.name"', "dotted.name", "dotted.name"),
        ("straße_Ä", "STRAßE_Ä", "straße_Ä"),
    ],
)
def test_plain_names_fold_and_quoted_names_are_exact(written: str, snowflake: str, postgres: str) -> None:
    table = table_of(source=written, target=written)

    assert (table.snowflake_name, table.postgres_name) == (snowflake, postgres)


def test_a_target_that_is_not_named_is_the_source_in_lower_case() -> None:
    assert table_of(source="Flights").postgres_name == "flights"
    assert table_of(source='"Plane Details"').postgres_name == "plane details"


def test_databases_and_schemas_fold_like_tables() -> None:
    flights = load(tree()).sources[0]

    assert (flights.snowflake_database, flights.snowflake_schema) == ("NYC", "PUBLIC")
    assert (flights.postgres_database, flights.postgres_schema) == ("nyc", "public")


@pytest.mark.parametrize(
    "written", ['"open', 'a"b', '"a"b"', '""', "public.flights", " ", " flights", "a\0b", "x" * 256]
)
def test_what_is_no_name_is_refused(written: str) -> None:
    (problem,) = problems(tree({"source": written, "target": "flights"}))

    assert problem.startswith("sources[0].tables[0].source: must ")


def test_a_name_too_long_for_postgres_is_refused_where_it_is_written() -> None:
    long = "X" * 64

    assert problems(tree({"source": "A", "target": "é" * 32}, {"source": long})) == (
        "sources[0].tables[0].target: must not be longer than 63 bytes in PostgreSQL",
        "sources[0].tables[1].target: is needed, because the source's name is too long for PostgreSQL; add it",
    )
    assert table_of(source=long, target="short").postgres_name == "short"


@given(st.text(min_size=1, max_size=15).filter(lambda name: "\0" not in name and name.strip() == name))
def test_every_name_can_be_written_exactly(exact: str) -> None:
    assert names.in_snowflake(names.quoted(exact)) == exact
    assert names.in_postgres(names.quoted(exact)) == exact


# --- the environment ------------------------------------------------------------------------------------------------


def test_placeholders_are_filled_in_any_string() -> None:
    given = tree({"source": "${TABLE}", "source_filter": "REGION = '${REGION}' AND A < 5"}, batch_size="${BATCH}")
    given["sources"][0]["tables"][0]["truncate_onstart"] = "${TRUNCATE}"
    config = load(given, TABLE="planes", REGION="EU", BATCH="1000", TRUNCATE="true")

    table = config.sources[0].tables[0]
    assert (table.snowflake_name, table.source_filter) == ("PLANES", "REGION = 'EU' AND A < 5")
    assert (config.batch_size, table.truncate_onstart) == (1000, True)


def test_a_default_stands_in_for_what_is_unset_or_empty() -> None:
    given = tree({"source": "${A:-planes}", "source_filter": "${B:-X = '}'}"})
    given["sources"][0]["tables"][0]["source_filter"] = "${B:-X > 1}"

    assert load(given, A="", B="X > 2").sources[0].tables[0].source == "planes"
    assert load(given, A="", B="X > 2").sources[0].tables[0].source_filter == "X > 2"


def test_an_unset_variable_is_named() -> None:
    assert problems(tree({"source": "FLIGHTS", "source_filter": "${A} ${B} ${A}"}, batch_size="${C}")) == (
        "batch_size: C is not set in the environment; set it, or write ${NAME:-default}",
        "sources[0].tables[0].source_filter: A and B are not set in the environment; set it, or write ${NAME:-default}",
    )


@pytest.mark.parametrize("text", ["${", "a ${b", "${}", "${1A}", "${A B}", "${A-b}"])
def test_what_is_no_placeholder_is_refused(text: str) -> None:
    (problem,) = problems(tree({"source": "FLIGHTS", "source_filter": text}), A="1")

    assert problem.endswith("holds a ${ that is no placeholder; write ${NAME}, or $${ for a plain ${")


@given(st.text(alphabet="ab${}:-"))
def test_every_text_can_be_written_literally(text: str) -> None:
    assert placeholders.fill(text.replace("${", "$${"), {}) == text


def test_absent_connection_keys_come_from_the_environment() -> None:
    environment = {
        "SNOWFLAKE_ACCOUNT": "org-acc",
        "SNOWFLAKE_USER": "LOADER",
        "SNOWFLAKE_PASSWORD": "pw1",
        "SNOWFLAKE_PRIVATE_KEY": "pem",
        "SNOWFLAKE_PRIVATE_KEY_PATH": "/key.p8",
        "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": "phrase",
        "SNOWFLAKE_TOKEN": "oauth",
        "SNOWFLAKE_AUTHENTICATOR": "OAUTH",
        "SNOWFLAKE_ROLE": "READER",
        "SNOWFLAKE_WAREHOUSE": "WH",
        "SNOWFLAKE_HOST": "127.0.0.1",
        "SNOWFLAKE_PORT": "8080",
        "SNOWFLAKE_PROTOCOL": "http",
        "POSTGRES_HOST": "db.example.com",
        "POSTGRES_PORT": "6432",
        "POSTGRES_USER": "loader",
        "POSTGRES_PASSWORD": "pw2",
        "POSTGRES_IAM_AUTH": "True",
        "POSTGRES_REGION": "eu-west-1",
        "POSTGRES_SSLMODE": "require",
        "POSTGRES_SSLROOTCERT": "system",
    }
    config = load({"sources": [source({"source": "FLIGHTS"})]}, **environment)

    for section in ("snowflake", "postgres"):
        part = getattr(config, section)
        for key in type(part).model_fields:
            name = f"{section}_{key}".upper()
            if name in environment:
                value = getattr(part, key)
                found = value.get_secret_value() if hasattr(value, "get_secret_value") else value
                assert str(found) == environment[name], name


def test_the_config_goes_before_the_environment_and_an_empty_variable_counts_as_unset() -> None:
    config = load(tree(), SNOWFLAKE_ACCOUNT="other", POSTGRES_PORT="", SNOWFLAKE_ROLE="READER")

    assert (config.snowflake.account, config.snowflake.role, config.postgres.port) == ("org-acc", "READER", 5432)


def test_a_wrong_value_from_the_environment_names_its_variable_and_not_its_value() -> None:
    assert problems(tree(), POSTGRES_PORT="hunter2", SNOWFLAKE_PROTOCOL="hunter3") == (
        "postgres.port: must be a whole number; its value comes from POSTGRES_PORT",
        "snowflake.protocol: must be 'https' or 'http'; its value comes from SNOWFLAKE_PROTOCOL",
    )


def test_an_authenticator_of_the_environment_is_not_for_a_sign_in_of_the_config() -> None:
    snowflake = load(tree(), SNOWFLAKE_TOKEN="pat", SNOWFLAKE_AUTHENTICATOR="PROGRAMMATIC_ACCESS_TOKEN").snowflake

    assert (snowflake.sign_in, snowflake.authenticator) == ("password", None)


@pytest.mark.parametrize(
    ("authenticator", "says"),
    [
        ("OAUTH", "OAUTH signs in with token; set it, or SNOWFLAKE_TOKEN in the environment"),
        (
            "snowflake_jwt",
            "SNOWFLAKE_JWT signs in with private_key or rsa_key or private_key_path; set it, or SNOWFL",
        ),
        ("externalbrowser", "must be 'SNOWFLAKE', 'SNOWFLAKE_JWT', 'OAUTH' or 'PROGRAMMATIC_ACCESS_TOKEN'"),
    ],
)
def test_an_authenticator_that_cannot_sign_in_is_a_problem_of_the_config(authenticator: str, says: str) -> None:
    given = tree()
    given["snowflake"]["authenticator"] = authenticator

    (problem,) = problems(given)

    assert problem.startswith(f"snowflake.authenticator: {says}")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"sslmode": "prefer"},
            "postgres.sslmode: iam_auth sends a token that signs in, and RDS takes it over TLS",
        ),
        ({"host": "localhost"}, "postgres.sslmode: iam_auth sends a token"),  # whose default is prefer
        ({"host": "a.example.com,b.example.com"}, "postgres.host: a token of iam_auth is for one server"),
    ],
)
def test_a_sign_in_by_iam_is_to_one_server_and_encrypted(changes: dict[str, Any], says: str) -> None:
    given = tree()
    given["postgres"] = {"host": "db.example.com", "user": "u", "iam_auth": "${IAM:-true}", **changes}

    (problem,) = problems(given)

    assert problem.startswith(says)


def test_a_sign_in_by_iam_needs_no_password() -> None:
    given = tree()
    given["postgres"] = {"host": "db.example.com", "user": "u", "iam_auth": True}

    postgres = load(given).postgres

    assert (postgres.iam_auth, postgres.password, postgres.sslmode) == (True, None, "verify-full")


def test_a_sign_in_of_the_config_is_not_overridden_by_the_environment() -> None:
    snowflake = load(tree(), SNOWFLAKE_PRIVATE_KEY="pem", SNOWFLAKE_TOKEN="oauth").snowflake

    assert snowflake.sign_in == "password"
    assert snowflake.private_key is None
    assert snowflake.token is None


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (("private_key", "rsa_key", "private_key_path", "token", "password"), "private_key"),
        (("rsa_key", "private_key_path", "token", "password"), "rsa_key"),
        (("private_key_path", "token", "password"), "private_key_path"),
        (("token", "password"), "token"),
        (("password",), "password"),
    ],
)
def test_of_several_ways_to_sign_in_the_key_pair_is_taken_first(given: tuple[str, ...], taken: str) -> None:
    named = tree(snowflake={"account": "a", "user": "u", **dict.fromkeys(given, "x")})
    from_environment = tree(snowflake={"account": "a", "user": "u"})

    assert load(named).snowflake.sign_in == taken
    variables = {f"SNOWFLAKE_{key.upper()}": "x" for key in given}
    assert load(from_environment, **variables).snowflake.sign_in == taken


def test_without_a_way_to_sign_in_the_ways_are_named() -> None:
    (problem,) = problems(tree(snowflake={"account": "a", "user": "u", "password": ""}))

    assert problem == (
        "snowflake.private_key: there is no way to sign in; "
        "set one of private_key, rsa_key, private_key_path, token, password, or in the environment one of "
        "SNOWFLAKE_PRIVATE_KEY, SNOWFLAKE_RSA_KEY, SNOWFLAKE_PRIVATE_KEY_PATH, SNOWFLAKE_TOKEN, SNOWFLAKE_PASSWORD"
    )


def test_a_dotenv_file_adds_to_the_environment_and_does_not_override_it(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# local\nPOSTGRES_USER=loader\nPOSTGRES_PASSWORD='pa${USER}$$'\nexport HOME=/other\nEMPTY\n")

    assert configs.read_dotenv(path, {"HOME": "/root"}) == {
        "HOME": "/root",
        "POSTGRES_USER": "loader",
        "POSTGRES_PASSWORD": "pa${USER}$$",
    }
    assert configs.read_dotenv(tmp_path / "none", {"HOME": "/root"}) == {"HOME": "/root"}


def test_a_dotenv_file_that_is_no_text_is_an_error_of_the_config(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"A=\xff\xfe")

    with pytest.raises(ConfigError, match=r"\.env cannot be read: UnicodeDecodeError; write it as UTF-8 text"):
        configs.read_dotenv(path, {})


# --- mistakes -------------------------------------------------------------------------------------------------------


def test_ten_mistakes_are_reported_at_once_each_with_its_path() -> None:
    with pytest.raises(ConfigError) as caught:
        configs.load(TEN_MISTAKES, {}, where="config.json")

    assert caught.value.problems == (
        "parallel_threads: must be a whole number, not a string",
        "postgres.host: must be a host name or an address, not a URL",
        "postgres.user: POSTGRES_LOADER is not set in the environment; set it, or write ${NAME:-default}",
        "snowflake.acount: unknown key; did you mean account?",
        "snowflake.password: must be a string, not a number",
        "snowflake.protocol: must be 'https' or 'http', not a string",
        "sources[0].tables[0].append: contradicts truncate_onstart; keep one of them",
        "sources[0].tables[1].batch_size: must be at least 1, not 0",
        (
            "sources[0].tables[2].target: airlines is that of sources[0].tables[1] too; "
            "give each table its own; or set append for both; or merge both: name uniqueness_columns for both, with "
            "neither truncate_onstart nor watermark_from_target"
        ),
        "sources[0].tables[3].chunking_columns: have no effect with chunking one_scan; remove them, or take auto",
    )
    assert caught.value.message.startswith("config.json has 10 problems; parallel_threads: ")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "config.json is not JSON: line 1 column 1: Expecting value; fix it there"),
        ('{\n  "a": hunter2}', "config.json is not JSON: line 2 column 8: Expecting value; fix it there"),
        ('{"batch_size": NaN}', "config.json is not JSON: NaN is no JSON value"),
        ('{"a": ' + "[" * 99 + "]" * 99 + "}", "config.json is nested too deep at a[0][0]; no part of a config is"),
        ("[]", "config.json must be one JSON object with the keys snowflake, postgres and sources"),
    ],
)
def test_what_is_not_json_is_said_with_line_and_column(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.load(text, {}, where="config.json")

    assert str(caught.value) == said


def test_a_key_given_twice_is_an_error() -> None:
    text = json.dumps(tree()).replace('"tables": [', '"tables": [], "tables": [')

    with pytest.raises(ConfigError) as caught:
        configs.load(text, {}, where="config.json")

    assert caught.value.problems == ("sources[0].tables: is given more than once; keep one",)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (tree(batchsize=5), "batchsize: unknown key; did you mean batch_size?"),
        (
            tree({"source": "A", "Batch-Size": 5}),
            'sources[0].tables[0]["Batch-Size"]: unknown key; did you mean batch_size?',
        ),
        (tree({"source": "A", "xyz": 5}), "sources[0].tables[0].xyz: unknown key; remove it"),
        (tree(warehouse="WH"), "warehouse: unknown key; warehouse belongs in snowflake"),
        (tree({"sorce": "A"}), "sources[0].tables[0].sorce: unknown key; did you mean source?"),
        (
            {**tree(), "postgress": {"host": "h"}, "postgres": None},
            "postgress: unknown key; did you mean postgres?",
        ),
        (tree(snowflak={}, snowflake=None), "snowflak: unknown key; did you mean snowflake?"),
        (
            tree(snowflake={"account": "a", "user": "u", "passwrd": "x"}),
            "snowflake.passwrd: unknown key; did you mean password?",
        ),
    ],
)
def test_a_misspelt_key_is_one_problem_with_a_suggestion(given: Tree, said: str) -> None:
    assert problems(given) == (said,)


@pytest.mark.parametrize(
    ("place", "key", "meant"),
    [
        (("sources", 0), "postgres_database", ["target_pg_database"]),
        (("sources", 0), "pg_database", ["target_pg_database"]),
        (("sources", 0), "postgress_db", ["target_pg_database"]),
        (("sources", 0), "Target-Schema", ["target_pg_schema"]),
        (("sources", 0), "tagret_pg_database", ["target_pg_database"]),
        (("sources", 0), "snowflake_database", ["source_sf_database"]),
        (("sources", 0), "sf_schema", ["source_sf_schema"]),
        (("sources", 0), "source_tables", ["tables"]),
        (("sources", 0), "schema", ["source_sf_schema", "target_pg_schema"]),
        (("sources", 0, "tables", 0), "target_table", ["target"]),
        (("sources", 0, "tables", 0), "snowflake_table", ["source"]),
        (("sources", 0, "tables", 0), "pg_watermark", ["target_watermark"]),
        (("sources", 0, "tables", 0), "snowflake_watermark", ["source_watermark"]),
        (("sources", 0, "tables", 0), "filter", ["source_filter"]),
        (("sources", 0, "tables", 0), "target_filter", []),
        ((), "postgresql", ["postgres"]),
        ((), "target", ["postgres"]),
        ((), "source", ["sources"]),
        (("snowflake",), "snowflake_account", ["account"]),
        (("snowflake",), "postgres_password", []),
        (("postgres",), "pg_host", ["host"]),
        (("postgres",), "snowflake_user", []),
    ],
)
def test_a_suggestion_is_of_the_server_that_the_key_names(
    place: tuple[str | int, ...], key: str, meant: list[str]
) -> None:
    assert meant_by((*place, key)) == meant


def test_a_key_of_the_wrong_server_is_not_suggested_nor_told_to_be_missing() -> None:
    given = tree()
    source = given["sources"][0]
    source["postgres_database"] = source.pop("target_pg_database")

    assert problems(given) == ("sources[0].postgres_database: unknown key; did you mean target_pg_database?",)


def test_a_key_that_may_mean_two_is_told_both() -> None:
    given = tree()
    given["sources"][0]["database"] = "D"

    assert problems(given) == (
        "sources[0].database: unknown key; did you mean source_sf_database or target_pg_database?",
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (tree(batch_size="500"), "batch_size: must be a whole number, not a string"),
        (tree(batch_size=2.5), "batch_size: must be a whole number, not 2.5"),
        (tree(parallel_threads=True), "parallel_threads: must be a whole number, not true"),
        (tree(parallel_threads=1001), "parallel_threads: must be at most 1000, not 1001"),
        (tree(lambda_timeout_buffer_seconds=900), "lambda_timeout_buffer_seconds: must be less than 900.0, not 900"),
        (tree(sources=[]), "sources: must not be empty"),
        (tree(sources={}), "sources: must be a list, not an object"),
        (tree(postgres=[]), "postgres: must be an object, not a list"),
        (tree({"source": "A", "enabled": "yes"}), "sources[0].tables[0].enabled: must be true or false, not a string"),
        (tree({}), "sources[0].tables[0].source: is missing; add it"),
        (
            tree(postgres={"host": "localhost"}),
            "postgres.user: is missing; add it, or set POSTGRES_USER in the environment",
        ),
        (
            tree({"source": "A", "chunking": "fast"}),
            "sources[0].tables[0].chunking: must be 'auto', 'one_scan' or 'key_range', not \"fast\"",
        ),
        (
            tree({"source": "A", "chunking_columns": ["a", 5]}),
            "sources[0].tables[0].chunking_columns[1]: must be a string, not 5",
        ),
        (
            tree({"source": "A", "chunking_columns": "a"}),
            "sources[0].tables[0].chunking_columns: must be a list, not a string",
        ),
    ],
)
def test_a_wrong_value_is_one_problem_with_its_path(given: Tree, said: str) -> None:
    assert problems(given) == (said,)


def test_sources_have_names_of_their_own_and_tables_targets_of_their_own() -> None:
    given = tree()
    given["sources"] = [
        source({"source": "A"}, {"source": "B", "target": "A"}, {"source": '"A"', "target": "c"}),
        source({"source": "A"}),
    ]

    assert [problem.split(";")[0] for problem in problems(given)] == [
        "sources[0].tables[1].target: a is that of sources[0].tables[0] too",
        "sources[0].tables[2].source: A is that of sources[0].tables[0] too",
        "sources[1].source_name: flights is that of sources[0] too",
    ]


def test_a_disabled_table_is_in_nobodys_way() -> None:
    given = tree({"source": "A"}, {"source": "A", "enabled": False, "chunking_columns": ["id"]})

    assert len(load(given).source().select()) == 1


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"truncate_onstart": True, "append": True}, "append"),
        ({"chunking": "key_range"}, "chunking"),
        ({"chunking": "one_scan", "chunking_columns": ["a"]}, "chunking_columns"),
        ({"chunking_columns": ["a", "b"], "chunking_column_types": ["int"]}, "chunking_column_types"),
        ({"chunking_columns": ["a", "a"]}, "chunking_columns"),
        ({"uniqueness_columns": ["a", "a"]}, "uniqueness_columns"),
        ({"source_watermark": "changed"}, "source_watermark"),
        ({"target_watermark": "changed", "truncate_onstart": True}, "target_watermark"),
        ({"on_duplicate_keys": "reject"}, "on_duplicate_keys"),
        ({"on_duplicate_keys": "newest", "uniqueness_columns": ["a"]}, "on_duplicate_keys"),
    ],
)
def test_settings_that_contradict_each_other_are_one_problem(settings: Tree, key: str) -> None:
    (problem,) = contradictions(tree({"source": "A", **settings}))

    assert problem.path == ("sources", 0, "tables", 0, key)


@pytest.mark.parametrize(
    "settings",
    [
        {"chunking": "key_range", "chunking_columns": ["a", "b"], "chunking_column_types": ["int", "uuid"]},
        {"source_watermark": "changed", "target_watermark": "changed", "uniqueness_columns": ["a"]},
        {"source_watermark": "changed", "truncate_onstart": True},
    ],
)
def test_settings_that_go_together_are_no_problem(settings: Tree) -> None:
    assert list(contradictions(tree({"source": "A", **settings}))) == []


@pytest.mark.parametrize(
    ("everywhere", "own", "expected"),
    [
        (None, {}, None),
        ("reject", {}, "reject"),
        ("reject", {"on_duplicate_keys": "fail"}, "fail"),
        ("newest", {}, None),
        ("newest", {"source_watermark": "changed"}, "newest"),
    ],
)
def test_what_becomes_of_duplicates_is_said_for_all_tables_or_one(
    everywhere: str | None, own: Tree, expected: str | None
) -> None:
    given = tree({"source": "A", "uniqueness_columns": ["a"], **own}, on_duplicate_keys=everywhere)
    config = load(given)

    (table,) = config.source().select()

    assert config.with_defaults(table).on_duplicate_keys == expected


MERGED = {"uniqueness_columns": ["id"], "target": "both"}


@pytest.mark.parametrize(
    "other",
    [{}, {"truncate_onstart": True}, {"watermark_from_target": True, "source_watermark": "s"}, {"append": True}],
)
def test_tables_share_a_target_only_where_neither_deletes_or_doubles_what_the_other_loads(other: Tree) -> None:
    given = {**MERGED, **other} if "append" not in other else {"append": True, "target": "both"}
    found = list(contradictions(tree({"source": "A", **MERGED}, {"source": "B", **given})))

    assert [problem.path[-1] for problem in found] == ["target"] * bool(other)


# --- secrets --------------------------------------------------------------------------------------------------------

SECRETS = {
    "private_key": "-----BEGIN SECRET1",
    "private_key_passphrase": "SECRET2",
    "token": "SECRET3",
    "password": "SECRET4",
}


def test_no_secret_is_in_the_text_of_a_config() -> None:
    given = tree(
        snowflake={"account": "a", "user": "u", **SECRETS},
        postgres={"host": "localhost", "user": "u", "password": "${PG}"},
    )
    config = load(given, PG="SECRET5")

    assert config.postgres.password is not None
    assert config.postgres.password.get_secret_value() == "SECRET5"
    assert "SECRET" not in f"{config!r} {config} {config.model_dump_json()}"


@pytest.mark.parametrize("secret", ["SECRET9", 99999, ["SECRET9"], {"SECRET9": "SECRET9"}, "${SECRET9", ""])
def test_no_secret_is_in_the_text_of_an_error(secret: object) -> None:
    given = tree(
        snowflake={"account": secret, **dict.fromkeys(SECRETS, secret), "passwrd": secret},
        postgres={"host": "h@SECRET9", "port": "${PG}", "password": secret, "pass": secret},
    )

    with pytest.raises(ConfigError) as caught:
        load(given, PG="SECRET9")

    shown = f"{caught.value} {caught.value!r} {caught.value.problems} {caught.value.__cause__}"
    assert "SECRET9" not in shown
    assert "99999" not in shown.replace("snowflake.account: must be a string, not 99999", "")


# --- choosing a source and its tables -------------------------------------------------------------------------------


def two_sources(**settings: Any) -> Config:
    return load(tree(sources=[source({"source": "A"}), source({"source": "B"}, name="weather", **settings)]))


def test_a_source_is_found_by_name_and_the_only_one_without() -> None:
    assert two_sources().source("weather").source_name == "weather"
    assert two_sources(enabled=False).source().source_name == "flights"


@pytest.mark.parametrize(
    ("enabled", "name", "said"),
    [
        (True, "wether", "the config has no source wether; did you mean weather?; known: flights, weather"),
        (True, None, "the config has 2 enabled sources; name one of flights, weather"),
        (False, "weather", "source weather is disabled; set enabled to true"),
    ],
)
def test_a_source_that_cannot_be_chosen_is_explained(enabled: bool, name: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        two_sources(enabled=enabled).source(name)


def test_tables_are_chosen_as_written_or_as_snowflake_knows_them_and_keep_their_order() -> None:
    flights = load(
        tree({"source": "airlines"}, {"source": '"Plane Details"'}, {"source": "C"}, {"source": "D", "enabled": False})
    ).source()

    assert [table.source for table in flights.select()] == ["airlines", '"Plane Details"', "C"]
    assert [table.source for table in flights.select(['"Plane Details"', "AIRLINES", "airlines"])] == [
        "airlines",
        '"Plane Details"',
    ]


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (["airlnes"], "source flights has no table airlnes; did you mean AIRLINES?; known: AIRLINES, D"),
        (['"airlines"'], 'source flights has no table "airlines"; did you mean AIRLINES?; known: AIRLINES, D'),
        (["d"], "table d of source flights is disabled; set enabled to true"),
        ([], "source flights has no table to move; enable or name at least one"),
    ],
)
def test_a_table_that_cannot_be_chosen_is_explained(tables: list[str], said: str) -> None:
    flights = load(tree({"source": "AIRLINES"}, {"source": "D", "enabled": False})).source()

    with pytest.raises(ConfigError, match=re.escape(said)):
        flights.select(tables)


# --- what a run remembers -------------------------------------------------------------------------------------------


def frozen(given: Tree, **environment: str) -> Tree:
    config = load(given, **environment)
    return configs.frozen(config, config.source(), config.source().select())


def test_a_frozen_config_has_every_default_and_every_name_resolved() -> None:
    part = frozen(tree({"source": "flights", "batch_size": 7}, {"source": "PLANES"}, batch_size=9))

    assert part == json.loads(json.dumps(part))
    assert part["source"]["source_sf_database"] == "NYC"
    assert part["tables"]["flights"]["target"] == "flights"
    assert {name: table["batch_size"] for name, table in part["tables"].items()} == {"flights": 7, "PLANES": 9}


def test_secrets_and_the_way_of_signing_in_are_not_remembered() -> None:
    with_password = frozen(tree())
    with_key = frozen(tree(snowflake={"account": "org-acc", "user": "LOADER", **SECRETS}), POSTGRES_PASSWORD="SECRET5")

    assert configs.config_hash(with_password) == configs.config_hash(with_key)
    assert "SECRET" not in json.dumps(with_key)


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        items = list(value.items())
        chance.shuffle(items)
        return {key: shuffled(item, chance) for key, item in items}
    return value


@given(st.randoms(), st.permutations(["FLIGHTS", "PLANES", "AIRLINES"]))
def test_the_hash_does_not_depend_on_the_order_of_keys_or_tables(chance: random.Random, order: list[str]) -> None:
    plain = frozen(tree({"source": "FLIGHTS"}, {"source": "PLANES"}, {"source": "AIRLINES"}))
    permuted = frozen(shuffled(tree(*({"source": name} for name in order)), chance))

    assert configs.config_hash(shuffled(permuted, chance)) == configs.config_hash(plain)


@pytest.mark.parametrize(
    "changed",
    [
        tree({"source": "FLIGHTS", "source_filter": "A > 1"}),
        tree({"source": "FLIGHTS"}, {"source": "PLANES"}),
        tree(batch_size=1),
        tree(postgres={"host": "127.0.0.1", "user": "loader"}),
    ],
)
def test_the_hash_depends_on_what_shapes_a_run(changed: Tree) -> None:
    assert configs.config_hash(frozen(changed)) != configs.config_hash(frozen(tree()))


def test_how_long_a_run_stays_resumable_can_change() -> None:
    assert frozen(tree(resume_max_age="30d")) == frozen(tree())


def test_how_long_rejected_rows_are_kept_can_change_and_is_a_day_at_least() -> None:
    assert frozen(tree(rejects_retention="30d")) == frozen(tree())
    assert load(tree()).rejects_retention is None
    assert load(tree(rejects_retention="P30D")).rejects_retention == timedelta(days=30)
    for written in ("23h", 90, "0d", "soon"):
        (problem,) = problems(tree(rejects_retention=written))
        assert problem.startswith("rejects_retention: "), problem
    assert "must be at least 1d" in problems(tree(rejects_retention="23h"))[0]


def test_numbers_hash_alike_however_they_are_written() -> None:
    same = [tree(), tree(lambda_timeout_buffer_seconds=90), tree(lambda_timeout_buffer_seconds="${BUFFER}")]

    assert len({configs.config_hash(frozen(each, BUFFER="90.0")) for each in same}) == 1


def test_differences_name_each_change() -> None:
    old = frozen(tree({"source": "FLIGHTS"}, {"source": "PLANES"}))
    new = frozen(tree({"source": "FLIGHTS", "batch_size": 1_000_000, "target": "f"}, {"source": "WEATHER"}))

    assert configs.differences(old, old) == ()
    assert configs.differences(old, new) == (
        "tables.FLIGHTS.batch_size: 500000 -> 1000000",
        'tables.FLIGHTS.target: "flights" -> "f"',
    )


@pytest.mark.parametrize("levels", [60, 900, 100_000])
@pytest.mark.parametrize("key", ["sources", "snowflake", "batch_size", "made_up"])
def test_a_config_that_is_nested_too_deep_is_refused(key: str, levels: int) -> None:
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        text = f'{{"{key}": {opening * levels}1{closing * levels}}}'
        with pytest.raises(ConfigError, match=r"^the file is nested too deep"):
            configs.load(text, {}, where="the file")


def test_keys_that_a_newer_version_added_are_no_change_while_they_stand_at_their_defaults() -> None:
    old = frozen(tree({"source": "FLIGHTS", "column_policies": {"note": {"too_long": "truncate"}}}))
    same = frozen(tree({"source": "FLIGHTS", "column_policies": {"note": {"too_long": "truncate"}}}))
    set_now = {"column_map": {"A": "b"}, "on_extra_columns": "fail", "value_policies": {"narrow": "round"}}
    other = frozen(tree({"source": "FLIGHTS", "column_policies": {"note": {"too_long": "truncate"}}, **set_now}))
    del old["threads_per_invocation"]
    table = old["tables"]["FLIGHTS"]
    for key in ("column_map", "on_extra_columns", "on_duplicate_keys", "watermark_limit", "exclude_columns"):
        del table[key]
    del table["value_policies"]["narrow"], table["column_policies"]["note"]["narrow"]

    assert configs.differences(old, same) == ()
    assert configs.differences(old, other) == (
        "tables.FLIGHTS.column_map: added",
        "tables.FLIGHTS.on_extra_columns: added",
        "tables.FLIGHTS.value_policies.narrow: added",
    )


# --- the page and the schema ----------------------------------------------------------------------------------------

TITLES = {
    (): "Top level",
    ("snowflake",): "snowflake",
    ("postgres",): "postgres",
    ("sources", "[]"): "sources[]",
    ("sources", "[]", "tables", "[]"): "sources[].tables[]",
}


def rows_of(title: str) -> dict[str, str]:
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return {line.split("`")[1]: line for line in section.splitlines() if line.startswith("| `")}


@pytest.mark.parametrize("path", LEVELS)
def test_the_page_has_every_key_and_its_variable(path: tuple[str, ...]) -> None:
    rows, model = rows_of(TITLES[path]), LEVELS[path]

    assert set(rows) == set(model.model_fields)
    for key, row in rows.items():
        name = variable((*path, key))
        assert name is None or f"`{name}`" in row


def test_the_page_has_every_policy_with_its_default_and_its_choices() -> None:
    rows = rows_of("Values that do not fit")

    assert set(rows) == set(Policies.model_fields) == set(ValuePolicies.model_fields)
    for name, field in Policies.model_fields.items():
        default, others = (set(re.findall(r"`(\w+)`", cell)) for cell in rows[name].split("|")[2:4])
        assert default == {field.default}
        assert default | others == set(get_args(field.annotation))


def test_a_policy_is_as_the_level_above_has_it_unless_said_otherwise() -> None:
    config = load(
        tree(
            {"source": "A", "value_policies": {"too_long": "truncate"}},
            {"source": "B", "column_policies": {"Note": {"nan": "null"}}},
            value_policies={"nul_characters": "strip", "too_long": "reject"},
        )
    )
    a, b = (config.with_defaults(table) for table in config.sources[0].tables)

    assert a.value_policies == ValuePolicies(nul_characters="strip", too_long="truncate")
    assert b.value_policies == ValuePolicies(nul_characters="strip", too_long="reject")
    assert b.column_policies["Note"].over(b.value_policies) == ValuePolicies(
        nul_characters="strip", too_long="reject", nan="null"
    )


def example() -> str:
    return PAGE.split("```json\n")[1].split("```")[0]


def test_the_example_of_the_page_is_valid() -> None:
    config = configs.load(example(), {"SNOWFLAKE_KEY_PASSPHRASE": "x", "PG_PASSWORD": "y"}, where="the page")

    assert [table.postgres_name for table in config.source("flights").select()] == ["airlines", "flights", "planes"]


def test_the_schema_accepts_what_the_config_accepts_and_describes_every_key() -> None:
    schema = configs.json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    placeholder = tree({"source": "A", "enabled": "${E}", "batch_size": "${B}"}, parallel_threads="${P}")
    from_environment = {"sources": [source({"source": "A"})]}

    for accepted in (
        json.loads(example()),
        placeholder,
        from_environment,
        tree(resume_max_age="60s", rejects_retention="90d"),
    ):
        assert list(validator.iter_errors(accepted)) == []
    for refused in (
        tree(batchsize=1),
        tree(batch_size=0),
        tree(batch_size="7"),
        {},
        tree({"source": "A", "batch_size": 0}),
    ):
        assert list(validator.iter_errors(refused)) != []
    for part in (schema, *schema["$defs"].values()):
        assert all(value.get("description") for value in part["properties"].values())


# --- configs of the predecessor ---------------------------------------------------------------------------------------


def read_as_predecessors(**more: Any) -> Config:
    return load({**tree(), "snowflake": {"account": "a", "user": "u", "rsa_key": "MII"}, **more})


def test_a_config_with_rsa_key_is_read_as_the_predecessors_and_any_that_says_so() -> None:
    config = read_as_predecessors(resume_max_age=168)

    assert config.compatibility == "predecessor"
    assert config.resume_max_age == timedelta(days=7)
    assert config.with_defaults(config.sources[0].tables[0]).value_policies.narrow == "round"
    said = load(tree(compatibility="predecessor", resume_max_age="12", value_policies={"narrow": "truncate"}))
    assert (said.resume_max_age, said.value_policies.narrow) == (timedelta(hours=12), "truncate")
    assert load(tree()).compatibility is None


def test_a_caller_may_say_whose_config_it_is() -> None:
    text = json.dumps(tree(resume_max_age=24))

    assert configs.load(text, {}, where="x", compatibility="predecessor").resume_max_age == timedelta(hours=24)
    with pytest.raises(ConfigError, match="resume_max_age: needs a unit, as in 24h or 24d"):
        configs.load(text, {}, where="x")
