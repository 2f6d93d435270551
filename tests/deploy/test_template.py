"""What the template promises, compared with the code it deploys."""

import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from importlib import metadata
from pathlib import Path
from typing import Any

import grimp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import TypeAdapter

from snowmelt import actions, models
from snowmelt.aws import metrics
from snowmelt.postgres.roots import RDS_BUNDLE, file_of
from snowmelt.settings import Settings
from snowmelt_sandbox.aws.template import read_template
from support.tls import authority

ROOT = Path(__file__).parents[2]
PARTS_OF_THE_RUNTIME = {"boto3", "botocore"}

Resource = dict[str, Any]


TEMPLATE = read_template(ROOT / "template.yaml")
RESOURCES: dict[str, Resource] = TEMPLATE["Resources"]
FUNCTION = RESOURCES["Function"]["Properties"]
STATE_MACHINE = RESOURCES["StateMachine"]["Properties"]
DEFINITION = (ROOT / "statemachine" / "migration.asl.json").read_text()


def statements(role: str) -> Iterator[Resource]:
    """The statements of a role's own policies, those of a condition included."""
    for policy in RESOURCES[role]["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            yield statement["Fn::If"][1] if "Fn::If" in statement else statement


def allowed(role: str) -> set[str]:
    actions = (statement["Action"] for statement in statements(role))
    return {name for action in actions for name in ([action] if isinstance(action, str) else action)}


# --- the function ---------------------------------------------------------------------------------------------------


def test_the_handler_is_where_the_template_says() -> None:
    module, name = FUNCTION["Handler"].rsplit(".", 1)
    assert callable(getattr(importlib.import_module(module), name))


def test_every_setting_of_the_function_is_one_the_code_reads() -> None:
    given = {name for name in FUNCTION["Environment"]["Variables"] if name.startswith("SNOWMELT_")}
    said_elsewhere = {"SNOWMELT_COMPATIBILITY"}  # the config and each start say it
    assert given | said_elsewhere == {f"SNOWMELT_{field}".upper() for field in Settings.model_fields}


def test_a_task_outwaits_the_longest_function() -> None:
    longest = TEMPLATE["Parameters"]["FunctionTimeoutSeconds"]["MaxValue"]
    assert all(int(seconds) > longest for seconds in re.findall(r'"TimeoutSeconds": (\d+)', DEFINITION))


@pytest.mark.parametrize(
    ("makefile", "resource"),
    [("src/Makefile", "Function"), ("lambda_layer/Makefile", "DependenciesLayer")],
)
def test_the_makefiles_build_what_the_template_names(makefile: str, resource: str) -> None:
    assert RESOURCES[resource]["Metadata"]["BuildMethod"] == "makefile"
    assert re.search(rf"^build-{resource}:", (ROOT / makefile).read_text(), re.MULTILINE)


@pytest.mark.parametrize("makefile", ["src/Makefile", "lambda_layer/Makefile"])
def test_the_makefiles_build_for_the_runtime_of_the_template(makefile: str) -> None:
    version = re.search(r"^PYTHON_VERSION := (\S+)$", (ROOT / makefile).read_text(), re.MULTILINE)
    assert version is not None
    assert FUNCTION["Runtime"] == f"python{version[1]}"
    assert RESOURCES["DependenciesLayer"]["Properties"]["CompatibleRuntimes"] == [FUNCTION["Runtime"]]


def test_the_layer_is_built_for_the_machine_that_the_function_runs_on() -> None:
    platforms = re.findall(r"--platform manylinux\w*?_(x86_64|aarch64)\b", (ROOT / "lambda_layer/Makefile").read_text())
    machine = {"x86_64": "x86_64", "aarch64": "arm64"}
    assert platforms
    assert {machine[platform] for platform in platforms} == set(FUNCTION["Architectures"])
    layer = RESOURCES["DependenciesLayer"]
    assert layer["Properties"]["CompatibleArchitectures"] == FUNCTION["Architectures"]
    assert layer["Metadata"]["BuildArchitecture"] == FUNCTION["Architectures"][0]


# --- the layer ------------------------------------------------------------------------------------------------------


LOCK = (ROOT / "lambda_layer" / "requirements.txt").read_text()


def layer() -> dict[str, Requirement]:
    requirements = [Requirement(pin) for pin in re.findall(r"^([^#\s]\S+) \\$", LOCK, re.MULTILINE)]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def test_the_layer_holds_what_the_handler_imports() -> None:
    graph = grimp.build_graph("snowmelt", include_external_packages=True)
    upstream = graph.find_upstream_modules("snowmelt.lambda_handler")
    foreign = {name for name in upstream if graph.is_module_squashed(name)} - set(sys.stdlib_module_names)
    owners = metadata.packages_distributions()

    assert "psycopg2" in foreign
    missing = {
        name
        for name in foreign - PARTS_OF_THE_RUNTIME
        if not {canonicalize_name(owner) for owner in owners[name]} & set(layer())
    }
    assert missing == set()


def test_the_handler_imports_nothing_that_is_not_deployed() -> None:
    upstream = grimp.build_graph("snowmelt").find_upstream_modules("snowmelt.lambda_handler")
    assert not {name for name in upstream if name.startswith("snowmelt_sandbox")}


def test_the_layer_holds_what_its_packages_require() -> None:
    lambda_ = {"extra": "", "python_version": "3.13", "python_full_version": "3.13.0", "sys_platform": "linux"}
    for name in layer():
        for line in metadata.requires(name) or []:
            required = Requirement(line)
            if required.marker is None or required.marker.evaluate(lambda_):
                assert canonicalize_name(required.name) in set(layer()) | PARTS_OF_THE_RUNTIME, line


def test_the_layer_keeps_to_the_bounds_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {name: str(requirement.specifier).removeprefix("==") for name, requirement in layer().items()}
    for line in project["dependencies"]:
        wanted = Requirement(line)
        pin = pins.get(canonicalize_name(wanted.name))
        assert pin is None or wanted.specifier.contains(pin), line


def test_the_layer_pins_every_version_and_leaves_out_what_is_too_large() -> None:
    assert all(re.fullmatch(r"==[\d.]+", str(requirement.specifier)) for requirement in layer().values())
    assert set(layer()).isdisjoint({"boto3", "botocore", "numpy", "pandas"})


def test_the_layer_is_the_very_wheels_that_were_locked() -> None:
    assert len(re.findall(r"^ +--hash=sha256:[0-9a-f]{64}$", LOCK, re.MULTILINE)) == len(layer()) > 20
    assert "--require-hashes" in (ROOT / "lambda_layer" / "Makefile").read_text()


def test_no_file_of_the_deployment_names_where_packages_come_from() -> None:
    files = [
        ROOT / "template.yaml",
        ROOT / "samconfig.toml",
        ROOT / "src" / "Makefile",
        *(ROOT / "lambda_layer").glob("*.*"),
    ]
    files += [ROOT / "lambda_layer" / "Makefile", *(ROOT / "scripts").iterdir()]
    for file in files:
        assert not re.search(r"index-url|find-links|https?://(?!docs\.|\$)", file.read_text()), file


def size_report(folder: Path) -> "subprocess.CompletedProcess[str]":
    report = ROOT / "lambda_layer" / "size_report.py"
    return subprocess.run([sys.executable, report, folder], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("megabytes", "exit_code"), [(199, 0), (201, 1)])
def test_a_build_ends_where_the_layer_is_too_large(tmp_path: Path, megabytes: int, exit_code: int) -> None:
    (tmp_path / "python" / "pyarrow").mkdir(parents=True)
    with (tmp_path / "python" / "pyarrow" / "libarrow.so").open("wb") as sparse:
        sparse.truncate(megabytes * 1_000_000)

    ended = size_report(tmp_path)

    assert ended.returncode == exit_code
    assert f"{megabytes}.0 MB  pyarrow" in ended.stderr
    assert ("too large: leave out 1.0 MB" in ended.stderr) is bool(exit_code)


# --- whom the function trusts ---------------------------------------------------------------------------------------


def roots() -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(RDS_BUNDLE.read_bytes())


def test_the_function_trusts_the_roots_of_rds_unless_it_is_told_of_others() -> None:
    assert file_of(FUNCTION["Environment"]["Variables"]["SNOWMELT_SSLROOTCERT"]) == str(RDS_BUNDLE)
    assert "PGSSLROOTCERT" not in FUNCTION["Environment"]["Variables"]


def test_the_roots_of_rds_are_those_that_were_locked_and_roots_of_rds_alone() -> None:
    (locked,) = re.findall(r"^RDS_ROOTS_SHA256 := (\S+)$", (ROOT / "src" / "Makefile").read_text(), re.MULTILINE)
    assert hashlib.sha256(RDS_BUNDLE.read_bytes()).hexdigest() == locked
    assert len(roots()) > 80
    for root in roots():
        assert root.subject == root.issuer
        assert "CN=Amazon RDS " in root.subject.rfc4514_string()
        root.verify_directly_issued_by(root)


def test_a_build_ends_where_the_roots_are_not_those_that_were_locked(tmp_path: Path) -> None:
    (tmp_path / "snowmelt" / "postgres").mkdir(parents=True)
    (tmp_path / "snowmelt" / "postgres" / RDS_BUNDLE.name).write_bytes(RDS_BUNDLE.read_bytes() + b"\n")
    command = ["make", "--file", str(ROOT / "src" / "Makefile"), f"PYTHON={sys.executable}", "build-Function"]

    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "ARTIFACTS_DIR": str(tmp_path / "a")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode != 0
    assert "is not what was locked: run scripts/renew-rds-roots" in ended.stderr
    assert not (tmp_path / "a").exists()


def test_renewing_the_roots_takes_those_of_a_file_that_servers_may_have(tmp_path: Path) -> None:
    for name in ("scripts/renew-rds-roots", "src/Makefile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    bundle = tmp_path / RDS_BUNDLE.relative_to(ROOT)
    bundle.parent.mkdir(parents=True)
    pems = [root.public_bytes(Encoding.PEM).decode() for root in roots()]
    as_javascript = pems[0].replace("\n", "\\n' +\n  '")
    given = tmp_path / "given.pem"
    given.write_text("\n".join([as_javascript, pems[1], pems[1], authority().root, authority().certificate]))

    ended = subprocess.run(
        [sys.executable, tmp_path / "scripts" / "renew-rds-roots", given], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "2 root certificates locked" in ended.stdout
    assert x509.load_pem_x509_certificates(bundle.read_bytes()) == roots()[:2]
    assert hashlib.sha256(bundle.read_bytes()).hexdigest() in (tmp_path / "src" / "Makefile").read_text()


# --- how the function signs in --------------------------------------------------------------------------------------


def test_iam_is_for_stacks_that_name_a_user_of_the_database_and_the_second_secret_for_those_that_have_one() -> None:
    nothing = {"Ref": "AWS::NoValue"}
    (policy,) = RESOURCES["FunctionRole"]["Properties"]["Policies"]
    given = policy["PolicyDocument"]["Statement"]
    chosen = {s["Fn::If"][1]["Sid"]: s["Fn::If"] for s in given if "Fn::If" in s}
    condition, statement, otherwise = chosen["SignInToPostgres"]
    assert (condition, otherwise) == ("SignsInByIam", nothing)
    assert statement["Resource"] == {"Ref": "PostgresDbUserArn"}
    assert FUNCTION["Environment"]["Variables"]["POSTGRES_IAM_AUTH"] == {"Fn::If": ["SignsInByIam", "true", nothing]}
    (reads,) = (s["Resource"] for s in statements("FunctionRole") if s["Sid"] == "ReadSecret")
    first, second = {"Ref": "SecretArn"}, {"Ref": "PostgresSecretArn"}
    assert reads == {"Fn::If": ["HasPostgresSecret", [first, second], first]}


@pytest.mark.parametrize(
    ("parameter", "takes", "refuses"),
    [
        (
            "PostgresDbUserArn",
            "arn:aws:rds-db:eu-west-1:123456789012:dbuser:cluster-ABC/snowmelt",
            "arn:aws:rds-db:eu-west-1:123456789012:dbuser:*/*",
        ),
        (
            "PostgresSecretArn",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!db-1-AbCdEf",
            "rds!db-1",
        ),
    ],
)
def test_a_parameter_of_the_sign_in_takes_one_arn_or_nothing(parameter: str, takes: str, refuses: str) -> None:
    pattern = TEMPLATE["Parameters"][parameter]["AllowedPattern"]
    assert re.fullmatch(pattern, "")
    assert re.fullmatch(pattern, takes)
    assert not re.fullmatch(pattern, refuses)


# --- the state machine ----------------------------------------------------------------------------------------------


def lint(*templates: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), *templates], capture_output=True, text=True, check=False
    )


@pytest.mark.full
def test_a_linter_of_templates_finds_nothing_in_ours_and_a_mistake_in_another(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((ROOT / "schedule.yaml").read_text().replace("FlexibleTimeWindow:", "FlexibleTimeWindows:"))

    ours = lint(ROOT / "template.yaml", ROOT / "schedule.yaml")
    assert (ours.returncode, ours.stdout) == (0, "")
    assert "FlexibleTimeWindow" in lint(wrong).stdout


def test_every_file_that_the_template_names_is_there() -> None:
    assert missing_files(TEMPLATE) == []


def test_a_file_that_is_not_there_is_seen() -> None:
    wrong = deepcopy(TEMPLATE)
    wrong["Resources"]["StateMachine"]["Properties"]["DefinitionUri"] = "statemachine/migrations.asl.json"
    wrong["Resources"]["DependenciesLayer"]["Properties"]["ContentUri"] = "layer/"
    assert missing_files(wrong) == ["layer/", "statemachine/migrations.asl.json"]


def missing_files(template: Resource) -> list[str]:
    """Linters of templates do not look."""
    properties = [resource["Properties"] for resource in template["Resources"].values()]
    named = [each[key] for each in properties for key in ("CodeUri", "ContentUri", "DefinitionUri") if key in each]
    return sorted(name for name in named if not (ROOT / name).exists())


def test_every_name_that_the_template_refers_to_is_in_it() -> None:
    known = {*TEMPLATE["Parameters"], *RESOURCES, "Function.Version", "Function.Alias"}
    assert {name for name in references(TEMPLATE) if not name.startswith("AWS::")} <= known
    assert set(conditions(TEMPLATE)) == set(TEMPLATE["Conditions"])


def references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        yield from (name for each in value for name in references(each))
    elif isinstance(value, dict):
        yield from (
            name
            for key, each in value.items()
            if key not in {"Ref", "Fn::GetAtt", "Fn::Sub"}
            for name in references(each)
        )
        if isinstance(value.get("Ref"), str):
            yield value["Ref"]
        if "Fn::GetAtt" in value:
            yield value["Fn::GetAtt"][0]
        if "Fn::Sub" in value:
            yield from (name.split(".")[0] for name in re.findall(r"\$\{([\w:.]+)\}", value["Fn::Sub"]))


def conditions(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        yield from (name for each in value for name in conditions(each))
    elif isinstance(value, dict):
        yield from (name for each in value.values() for name in conditions(each))
        yield from ([value["Fn::If"][0]] if "Fn::If" in value else [])
        yield from ([value["Condition"]] if isinstance(value.get("Condition"), str) else [])


def test_a_run_keeps_the_version_it_began_with() -> None:
    assert FUNCTION["AutoPublishAlias"] == "live"
    assert FUNCTION["AutoPublishAliasAllProperties"] is True
    assert STATE_MACHINE["DefinitionSubstitutions"]["FunctionArn"] == {"Ref": "Function.Version"}
    (invoke,) = (s for s in statements("StateMachineRole") if s["Action"] == "lambda:InvokeFunction")
    assert invoke["Resource"] == {"Fn::Sub": "${Function.Arn}:*"}


def test_every_placeholder_of_the_definition_is_filled() -> None:
    assert STATE_MACHINE["DefinitionUri"] == "statemachine/migration.asl.json"
    assert set(re.findall(r"\$\{(\w+)\}", DEFINITION)) == set(STATE_MACHINE["DefinitionSubstitutions"])


def test_the_roles_do_not_wait_for_the_state_machine_that_waits_for_them() -> None:
    for role in ("FunctionRole", "StateMachineRole"):
        assert not re.search(r"\bStateMachine\b", json.dumps(RESOURCES[role]))
    assert STATE_MACHINE["Name"] == {"Ref": "AWS::StackName"}


# --- permissions and storage ----------------------------------------------------------------------------------------


def test_the_bucket_is_private_encrypted_and_forgets_old_runs_but_never_the_config() -> None:
    bucket = RESOURCES["Bucket"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["BucketEncryption"]

    store = FUNCTION["Environment"]["Variables"]["SNOWMELT_STORE"]["Fn::Sub"]
    expiring = [rule["Prefix"] for rule in bucket["LifecycleConfiguration"]["Rules"] if "ExpirationInDays" in rule]
    assert [store] == [f"s3://${{Bucket}}/{prefix.rstrip('/')}" for prefix in expiring]

    keys = re.compile(TEMPLATE["Parameters"]["ConfigKey"]["AllowedPattern"])
    assert keys.match(TEMPLATE["Parameters"]["ConfigKey"]["Default"])
    assert not keys.match(f"{expiring[0]}config.json")


def test_every_log_group_forgets() -> None:
    groups = [r["Properties"] for r in RESOURCES.values() if r["Type"] == "AWS::Logs::LogGroup"]
    assert len(groups) == 2
    assert all("RetentionInDays" in group for group in groups)


# --- alarms and dashboard -------------------------------------------------------------------------------------------


def own_metrics(value: Any) -> Iterator[tuple[str, str]]:
    """Name and action of each of our own metrics that an alarm looks at."""
    if isinstance(value, list):
        yield from (found for each in value for found in own_metrics(each))
    elif isinstance(value, dict):
        if value.get("Namespace") == metrics.NAMESPACE:
            dimensions = {each["Name"]: each["Value"] for each in value["Dimensions"]}
            assert dimensions["service"] == {"Ref": "AWS::StackName"}  # the function's name
            yield value["MetricName"], dimensions["action"]
        yield from (found for each in value.values() for found in own_metrics(each))


EMITTED = {
    *(("ActionSeconds", action) for action in actions.ACTIONS),
    *((name, "process_chunk") for name in (*metrics.COUNTED.values(), *metrics.TIMED.values())),
}


def test_alarms_look_at_metrics_that_are_emitted() -> None:
    assert set(own_metrics(RESOURCES)) == {
        ("ActionSeconds", "plan_chunks"),
        ("RowsLoaded", "process_chunk"),
        ("RowsRejected", "process_chunk"),
    }
    assert set(own_metrics(RESOURCES)) <= EMITTED


def test_the_dashboard_shows_metrics_that_are_emitted() -> None:
    body = json.loads(RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    shown = [m for widget in body["widgets"] for m in widget["properties"]["metrics"] if m[0] == metrics.NAMESPACE]
    assert {(metric[1], metric[5]) for metric in shown} <= EMITTED
    assert {metric[1] for metric in shown} >= set(metrics.TIMED.values()) | {"RowsLoaded", "ChunksCompleted"}


@pytest.mark.parametrize(
    "name", [name for name, resource in RESOURCES.items() if resource["Type"] == "AWS::CloudWatch::Alarm"]
)
def test_an_alarm_says_what_to_do_and_tells_someone(name: str) -> None:
    alarm = RESOURCES[name]["Properties"]
    assert alarm["AlarmDescription"].endswith(".")
    assert alarm["AlarmActions"] == [{"Ref": "FailureTopic"}]
    assert alarm["TreatMissingData"] == ("breaching" if name == "LastSuccessAlarm" else "notBreaching")


def test_the_longest_waits_for_an_alarm_are_those_that_cloudwatch_takes() -> None:
    parameters = TEMPLATE["Parameters"]
    for name in ("HoursBetweenSuccesses", "HoursUntilStuck"):
        assert parameters[name]["MaxValue"] * 3600 <= 7 * 86400


# --- the schedule ---------------------------------------------------------------------------------------------------

SCHEDULE = read_template(ROOT / "schedule.yaml")


def test_a_schedule_starts_a_run_of_one_source_and_may_do_nothing_else() -> None:
    target = SCHEDULE["Resources"]["Schedule"]["Properties"]["Target"]
    given = json.loads(target["Input"]["Fn::Sub"].replace("${SourceName}", "flights"))
    event = models.ValidateConfigEvent.model_validate({**given, "action": "validate_config", "execution_id": "x"})
    assert event.source_name == "flights"
    (policy,) = SCHEDULE["Resources"]["Role"]["Properties"]["Policies"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert (statement["Action"], statement["Resource"]) == ("states:StartExecution", {"Ref": "StateMachineArn"})
    assert target["Arn"] == {"Ref": "StateMachineArn"}


# --- sample events --------------------------------------------------------------------------------------------------

EVENTS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "events").glob("*.json")}
ACTIONS = {name: event for name, event in EVENTS.items() if "action" in event}


def test_there_is_a_sample_event_for_every_action() -> None:
    assert set(ACTIONS) == {
        "finalize",
        "migrate",
        "plan_chunks",
        "process_chunk",
        "test_connections",
        "validate_config",
    }


@pytest.mark.parametrize("name", ACTIONS)
def test_a_sample_event_is_one_the_function_takes(name: str) -> None:
    event: models.Event = TypeAdapter(models.Event).validate_python(ACTIONS[name])
    assert event.action == name


def test_the_sample_input_of_an_execution_is_one_that_validate_config_takes() -> None:
    given = {**EVENTS["start_execution"], "action": "validate_config", "execution_id": "x"}
    assert models.ValidateConfigEvent.model_validate(given).source_name == "flights"


def test_the_sample_environment_is_the_function_s_own() -> None:
    ((name, variables),) = EVENTS["env.sample"].items()
    assert name == "Function"
    assert set(variables) <= set(FUNCTION["Environment"]["Variables"])
