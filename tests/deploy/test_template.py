"""What the template promises, compared with the code it deploys."""

import importlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import TypeAdapter

from snowmelt import models
from snowmelt.settings import Settings

ROOT = Path(__file__).parents[2]
PARTS_OF_THE_RUNTIME = {"boto3", "botocore"}

Resource = dict[str, Any]


class TemplateLoader(yaml.SafeLoader):
    """Reads CloudFormation's short forms: ``!Ref X`` becomes ``{"Ref": "X"}``."""


def short_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    raise TypeError(node)


TemplateLoader.add_multi_constructor("!", short_form)
TEMPLATE = yaml.load((ROOT / "template.yaml").read_text(), TemplateLoader)
RESOURCES: dict[str, Resource] = TEMPLATE["Resources"]
FUNCTION = RESOURCES["Function"]["Properties"]
STATE_MACHINE = RESOURCES["StateMachine"]["Properties"]
DEFINITION = (ROOT / "statemachine" / "migration.asl.json").read_text()


def statements(role: str) -> Iterator[Resource]:
    """The statements of a role's own policies, those of a condition included."""
    for policy in RESOURCES[role]["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            yield statement["If"][1] if "If" in statement else statement


def allowed(role: str) -> set[str]:
    actions = (statement["Action"] for statement in statements(role))
    return {name for action in actions for name in ([action] if isinstance(action, str) else action)}


# --- the function ---------------------------------------------------------------------------------------------------


def test_the_handler_is_where_the_template_says() -> None:
    module, name = FUNCTION["Handler"].rsplit(".", 1)
    assert callable(getattr(importlib.import_module(module), name))


def test_every_setting_of_the_function_is_one_the_code_reads() -> None:
    given = {name for name in FUNCTION["Environment"]["Variables"] if name.startswith("SNOWMELT_")}
    assert given == {f"SNOWMELT_{field}".upper() for field in Settings.model_fields}


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


# --- the layer ------------------------------------------------------------------------------------------------------


def layer() -> dict[str, Requirement]:
    lines = (ROOT / "lambda_layer" / "requirements.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
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
    assert not {name for name in upstream if name.startswith("snowmelt.local")}


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


# --- the state machine ----------------------------------------------------------------------------------------------


def test_every_placeholder_of_the_definition_is_filled() -> None:
    assert STATE_MACHINE["DefinitionUri"] == "statemachine/migration.asl.json"
    assert set(re.findall(r"\$\{(\w+)\}", DEFINITION)) == set(STATE_MACHINE["DefinitionSubstitutions"])


def test_the_state_machine_may_do_what_a_distributed_map_does() -> None:
    needed = {
        "lambda:InvokeFunction",
        "s3:GetObject",
        "states:StartExecution",
        "states:DescribeExecution",
        "states:StopExecution",
    }
    assert needed <= allowed("StateMachineRole")


def test_the_roles_do_not_wait_for_the_state_machine_that_waits_for_them() -> None:
    for role in ("FunctionRole", "StateMachineRole"):
        assert not re.search(r"\bStateMachine\b", json.dumps(RESOURCES[role]))
    assert STATE_MACHINE["Name"] == {"Ref": "AWS::StackName"}


# --- permissions and storage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["FunctionRole", "StateMachineRole"])
def test_roles_name_their_resources_and_no_whole_service(role: str) -> None:
    assert not any(action.endswith(":*") for action in allowed(role))
    open_ = [statement["Sid"] for statement in statements(role) if statement["Resource"] == "*"]
    assert open_ == (["DeliverLogs"] if role == "StateMachineRole" else [])


def test_the_bucket_is_private_encrypted_and_forgets_old_runs_but_never_the_config() -> None:
    bucket = RESOURCES["Bucket"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["BucketEncryption"]

    store = FUNCTION["Environment"]["Variables"]["SNOWMELT_STORE"]["Sub"]
    expiring = [rule["Prefix"] for rule in bucket["LifecycleConfiguration"]["Rules"] if "ExpirationInDays" in rule]
    assert [store] == [f"s3://${{Bucket}}/{prefix.rstrip('/')}" for prefix in expiring]

    keys = re.compile(TEMPLATE["Parameters"]["ConfigKey"]["AllowedPattern"])
    assert keys.match(TEMPLATE["Parameters"]["ConfigKey"]["Default"])
    assert not keys.match(f"{expiring[0]}config.json")


def test_every_log_group_forgets() -> None:
    groups = [r["Properties"] for r in RESOURCES.values() if r["Type"] == "AWS::Logs::LogGroup"]
    assert len(groups) == 2
    assert all("RetentionInDays" in group for group in groups)


# --- sample events --------------------------------------------------------------------------------------------------

EVENTS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "events").glob("*.json")}
ACTIONS = {name: event for name, event in EVENTS.items() if "action" in event}


def test_there_is_a_sample_event_for_every_action() -> None:
    assert set(ACTIONS) == {
        "finalize",
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
