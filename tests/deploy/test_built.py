"""What `sam build` makes: the same bytes each time, small enough, what it should hold. Long, hence behind --full."""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from snowmelt_sandbox.aws import LocalAws, built
from snowmelt_sandbox.aws.built import LIMIT_MEGABYTES, MEGABYTE, MOST_MEGABYTES, Built
from snowmelt_sandbox.postgres import LocalPostgres
from support.tls import TlsServer, authority

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "snowmelt"
COMPILES = {*PACKAGE.rglob("*.py")} - {*(PACKAGE / "monitoring" / "dashboard").rglob("*.py")}

pytestmark = pytest.mark.full


def run(command: str) -> "subprocess.CompletedProcess[str]":
    """A command in a shell, with the runtime's Python before all others."""
    script = f"cd {ROOT} && . scripts/set-up-runtime && export RUNTIME_PYTHON RUNTIME_PACKAGES && {command}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)


def digests(folder: Path) -> dict[str, str]:
    """Every file below the folder by the hash of what is in it and when it was changed."""
    return {
        str(file.relative_to(folder)): f"{hashlib.sha256(file.read_bytes()).hexdigest()} {file.stat().st_mtime}"
        for file in folder.rglob("*")
        if file.is_file()
    }


def build(folder: Path) -> Built:
    ended = run(f"PATH=$(dirname $RUNTIME_PYTHON):$PATH BUILD_DIR={folder / 'build'} scripts/build")
    assert ended.returncode == 0, ended.stderr
    return built.read(folder / "build" / "template.yaml")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("first"))


def test_function_and_layer_leave_room_below_the_limit(artifacts: Built) -> None:
    assert 100 < artifacts.size_bytes / MEGABYTE < MOST_MEGABYTES < LIMIT_MEGABYTES


def test_the_function_holds_the_package_its_sql_and_its_page_and_nothing_else(artifacts: Built) -> None:
    kept = {str(file.relative_to(artifacts.task)) for file in artifacts.task.rglob("*") if file.is_file()}
    sources = {f"snowmelt/{file.relative_to(PACKAGE)}" for file in COMPILES}
    assert {name for name in kept if name.endswith(".py")} == sources
    assert {Path(name).suffix for name in kept} == {".py", ".pyc", ".sql", ".html", ".css", ".pem"}
    assert len([name for name in kept if name.endswith(".pyc")]) == len(sources)
    assert {Path(name).name for name in kept if name.endswith(".sql")} == {f.name for f in PACKAGE.rglob("*.sql")}
    assert {name for name in kept if name.endswith(".pem")} == {"snowmelt/postgres/rds-global-bundle.pem"}
    assert {name for name in kept if name.endswith((".html", ".css"))} == {
        f"snowmelt/reports/report.{kind}" for kind in ("html", "css")
    }


def test_every_module_of_the_layer_is_compiled_for_the_runtime(artifacts: Built) -> None:
    modules = list((artifacts.layer / "python" / "pydantic").rglob("*.py"))
    assert modules
    for module in modules:
        assert (module.parent / "__pycache__" / f"{module.stem}.cpython-313.pyc").is_file(), module


def test_a_second_build_makes_the_same_bytes(artifacts: Built, tmp_path: Path) -> None:
    again = build(tmp_path)
    for first, second in ((artifacts.task, again.task), (artifacts.layer, again.layer)):
        ours, theirs = digests(first), digests(second)
        assert ours.keys() == theirs.keys()
        assert {name for name in ours if ours[name] != theirs[name]} == set()


def test_a_wheel_that_is_not_the_locked_one_ends_the_build(tmp_path: Path) -> None:
    layer = shutil.copytree(ROOT / "lambda_layer", tmp_path / "layer")
    pins = (layer / "requirements.txt").read_text()
    digest = pins.partition("--hash=sha256:")[2][:64]
    (layer / "requirements.txt").write_text(pins.replace(digest, "0" * 64))

    ended = subprocess.run(
        ["make", "--directory", layer, "install", f"PYTHON={sys.executable}"],
        env={**os.environ, "ARTIFACTS_DIR": str(tmp_path / "artifacts")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode != 0
    assert "DO NOT MATCH THE HASHES" in ended.stderr


def test_what_was_built_moves_the_demo_s_tables_where_only_tmp_can_be_written(artifacts: Built) -> None:
    template = artifacts.task.parent / "template.yaml"
    files = "--definition statemachine/migration.asl.json --grants sql/grants_postgres.sql"
    command = f"{sys.executable} -m snowmelt_sandbox.demo {files}"
    ended = run(f"{command} --built {template} --python $RUNTIME_PYTHON --runtime-packages $RUNTIME_PACKAGES --json")
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout.splitlines()[-1])
    assert (summary["status"], summary["rows"]) == ("completed", 367_687)
    assert "only /tmp can be written" in ended.stderr


def test_what_was_built_verifies_postgresql_by_the_roots_of_rds_or_by_those_of_the_secret(
    artifacts: Built, tmp_path: Path
) -> None:
    facts = run("echo $RUNTIME_PYTHON; echo $PWD/$RUNTIME_PACKAGES").stdout.splitlines()
    source = {
        "source_name": "s",
        "source_sf_database": "D",
        "source_sf_schema": "PUBLIC",
        "target_pg_database": "postgres",
        "target_pg_schema": "public",
        "tables": [{"source": "T", "enabled": False}],
    }
    with LocalPostgres(durable=False) as postgres, TlsServer(postgres.host, postgres.port, tmp_path) as server:
        section = {"host": "localhost", "port": server.port, "user": "postgres", "sslmode": "verify-full"}
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"postgres": section, "sources": [source]}))
        stack = artifacts.deployed(
            runtime_packages=Path(facts[1]),
            python=Path(facts[0]),
            config=config,
            secret={"SNOWFLAKE_ACCOUNT": "a", "SNOWFLAKE_USER": "u", "SNOWFLAKE_PASSWORD": "x"},
            timeout_seconds=60,
            concurrency=1,
        )
        with stack as aws:
            said = [_tested(aws)]
            secret = {**stack.secret, "POSTGRES_SSLROOTCERT": authority().root}
            aws.secrets().put_secret_value(SecretId="snowmelt", SecretString=json.dumps(secret))
            said.append(_tested(aws))

    # That file is in the artifact, and read: the certificate is of none of its authorities.
    assert "certificate verify failed" in said[0]["message"]
    assert "authority that is not among those that are trusted" in said[0]["message"]
    assert said[1]["ok"], said[1]
    assert server.encrypted >= 1


def _tested(aws: LocalAws) -> dict[str, Any]:
    outcome = aws.functions.invoke(json.dumps({"action": "test_postgres"}).encode())
    assert outcome is not None
    assert "verdicts" in json.loads(outcome.payload), outcome
    (verdict,) = json.loads(outcome.payload)["verdicts"]
    return dict(verdict)


TRANSLATE = """
import json
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

class NoPolicies:
    def load(self):
        return {}

template = yaml_parse(open("template.yaml").read())
for name, key in (("Function", "CodeUri"), ("DependenciesLayer", "ContentUri"), ("StateMachine", "DefinitionUri")):
    template["Resources"][name]["Properties"][key] = "s3://bucket/key"
print(json.dumps(transform(template, {}, NoPolicies())["Resources"]))
"""


def test_a_version_that_a_running_execution_calls_outlives_an_update() -> None:
    ended = run(f". scripts/set-up-sam && $(dirname $SAM)/python -c {shlex.quote(TRANSLATE)}")
    assert ended.returncode == 0, ended.stderr
    resources = json.loads(ended.stdout)
    called = resources["StateMachine"]["Properties"]["DefinitionSubstitutions"]["FunctionArn"]["Ref"]
    assert resources[called]["Type"] == "AWS::Lambda::Version"
    assert resources[called]["DeletionPolicy"] == "Retain"
