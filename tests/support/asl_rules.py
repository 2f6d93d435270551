"""What Amazon States Language and this project ask of a definition; each broken rule is a line that says where.

Written after the language's specification, for JSONPath: a linter of templates does not open the definition, and the
engine that executes it here is more lenient than AWS.
"""

import re
from collections.abc import Iterator
from typing import Any

from snowmelt import errors

State = dict[str, Any]

LAMBDA_MAX_SECONDS = 900
MAP_RUN_RESOURCES = {"arn:${Partition}:states:::s3:getObject"}
TASK_RESOURCES = {"arn:${Partition}:states:::lambda:invoke"}
OWN_ERRORS = {kind.__name__ for kind in errors.SnowmeltError.__subclasses__()}
AWS_ERRORS = {
    "Lambda.AWSLambdaException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.EC2ThrottledException",
    "Lambda.ResourceNotReadyException",
    "Lambda.SdkClientException",
    "Lambda.ServiceException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Sandbox.Timedout",
    "States.ALL",
    "States.ItemReaderFailed",
    "States.Timeout",
}

_PATHS = {"InputPath", "OutputPath"}
_COMMON = {"Type", "Comment"}
_FLOW = {"Next", "End"}
_HANDLING = {"Retry", "Catch"}
FIELDS: dict[str, set[str]] = {
    "Pass": _COMMON | _FLOW | _PATHS | {"Result", "ResultPath", "Parameters"},
    "Task": _COMMON
    | _FLOW
    | _PATHS
    | _HANDLING
    | {"Resource", "Parameters", "ResultSelector", "ResultPath", "TimeoutSeconds", "HeartbeatSeconds", "Credentials"},
    "Choice": _COMMON | _PATHS | {"Choices", "Default"},
    "Wait": _COMMON | _FLOW | _PATHS | {"Seconds", "SecondsPath", "Timestamp", "TimestampPath"},
    "Succeed": _COMMON | _PATHS,
    "Fail": _COMMON | {"Error", "ErrorPath", "Cause", "CausePath"},
    "Map": _COMMON
    | _FLOW
    | _PATHS
    | _HANDLING
    | {"Label", "ItemReader", "ItemSelector", "ItemProcessor", "ItemsPath", "ItemBatcher", "ResultWriter", "ResultPath"}
    | {"ResultSelector", "MaxConcurrency", "MaxConcurrencyPath"}
    | {"ToleratedFailurePercentage", "ToleratedFailurePercentagePath", "ToleratedFailureCount"},
}
_MACHINE_FIELDS = {"Comment", "StartAt", "States", "Version", "TimeoutSeconds", "QueryLanguage", "ProcessorConfig"}
_RETRY_FIELDS = {
    *("Comment", "ErrorEquals", "IntervalSeconds", "BackoffRate"),
    *("MaxDelaySeconds", "MaxAttempts", "JitterStrategy"),
}
_CATCH_FIELDS = {"Comment", "ErrorEquals", "ResultPath", "Next"}
_CONNECTIVES = {"And", "Or", "Not"}
_COMPARISONS = re.compile(
    r"^(String|Numeric|Timestamp)(Equals|LessThan|GreaterThan|LessThanEquals|GreaterThanEquals)(Path)?$"
    r"|^BooleanEquals(Path)?$|^StringMatches$|^Is(Null|Present|Numeric|String|Boolean|Timestamp)$"
)
_INTRINSICS = {
    *("Format", "StringToJson", "JsonToString", "JsonMerge", "MathAdd", "MathRandom", "Hash", "UUID", "StringSplit"),
    *("Array", "ArrayPartition", "ArrayContains", "ArrayRange", "ArrayGetItem", "ArrayLength", "ArrayUnique"),
    *("Base64Encode", "Base64Decode"),
}


def problems(machine: dict[str, Any]) -> list[str]:
    """Every broken rule, with the state that breaks it; none for a definition that can be deployed."""
    return list(_machine("", machine))


def machines(machine: dict[str, Any]) -> Iterator[dict[str, State]]:
    """The states of the machine, then those of the processor in each of its Maps."""
    yield machine["States"]
    for state in machine["States"].values():
        if "ItemProcessor" in state:
            yield from machines(state["ItemProcessor"])


def successors(state: State) -> Iterator[str]:
    """The states that may follow."""
    for rule in [state, *state.get("Choices", []), *state.get("Catch", [])]:
        if "Next" in rule:
            yield rule["Next"]
    if "Default" in state:
        yield state["Default"]


def _machine(where: str, machine: dict[str, Any]) -> Iterator[str]:
    yield from (f"{where or 'definition'}: no such field {name}" for name in set(machine) - _MACHINE_FIELDS)
    states: dict[str, State] = machine["States"]
    if machine.get("StartAt") not in states:
        yield f"{where or 'definition'}: StartAt names no state: {machine.get('StartAt')}"
        return
    for name, state in states.items():
        yield from (f"{where}{name}: {problem}" for problem in _state(state))
        unknown = [other for other in successors(state) if other not in states]
        yield from (f"{where}{name}: no state is named {other}" for other in unknown)
        if "ItemProcessor" in state:
            yield from _machine(f"{where}{name}.", state["ItemProcessor"])
    yield from (f"{where}{name}: no path leads here" for name in set(states) - _reached(machine))
    yield from (f"{where}{name}: a loop without a Wait leads back here" for name in _tight_loops(states))


def _state(state: State) -> Iterator[str]:
    kind = state.get("Type")
    if kind not in FIELDS:
        yield f"there is no Type {kind}"
        return
    yield from (f"a {kind} has no field {name}" for name in set(state) - FIELDS[kind])
    if not str(state.get("Comment", "")).endswith("."):
        yield "no Comment says what it is for"
    if kind in {"Pass", "Task", "Wait", "Map"} and ("Next" in state) == ("End" in state):
        yield "it needs either Next or End"
    yield from _SPECIFIC.get(kind, _nothing)(state)
    yield from _handling(state)
    yield from _payloads(state)


def _task(state: State) -> Iterator[str]:
    if state.get("Resource") not in TASK_RESOURCES:
        yield f"Resource {state.get('Resource')} is not one the role may use"
    if state.get("Parameters", {}).get("FunctionName") != "${FunctionArn}":
        yield "it does not call the one function"
    if not isinstance(state.get("TimeoutSeconds"), int) or state["TimeoutSeconds"] <= LAMBDA_MAX_SECONDS:
        yield f"TimeoutSeconds must exceed the {LAMBDA_MAX_SECONDS} s that a function may take"


def _choice(state: State) -> Iterator[str]:
    if "Default" not in state:
        yield "a Choice without a Default fails where nothing matches"
    if not state.get("Choices"):
        yield "a Choice without Choices"
    for rule in state.get("Choices", []):
        if "Next" not in rule:
            yield "a rule of the Choice has no Next"
        yield from _condition({name: value for name, value in rule.items() if name not in {"Next", "Comment"}})


def _condition(rule: State) -> Iterator[str]:
    connective = _CONNECTIVES & set(rule)
    if connective:
        for part in rule[connective.pop()]:
            yield from _condition(part)
        return
    comparisons = [name for name in rule if name != "Variable"]
    if "Variable" not in rule or len(comparisons) != 1 or not _COMPARISONS.match(comparisons[0]):
        yield f"no comparison of the language: {sorted(rule)}"
    elif not str(rule["Variable"]).startswith("$"):
        yield f"Variable {rule['Variable']} is no path"


def _wait(state: State) -> Iterator[str]:
    if len({"Seconds", "SecondsPath", "Timestamp", "TimestampPath"} & set(state)) != 1:
        yield "a Wait needs one of Seconds, SecondsPath, Timestamp, TimestampPath"


def _fail(state: State) -> Iterator[str]:
    for name in ("Error", "Cause"):
        if len({name, f"{name}Path"} & set(state)) != 1:
            yield f"a Fail needs either {name} or {name}Path"


def _map(state: State) -> Iterator[str]:
    reader = state.get("ItemReader", {})
    if reader.get("Resource") not in MAP_RUN_RESOURCES:
        yield f"ItemReader.Resource {reader.get('Resource')} is not one the role may use"
    if len({"MaxConcurrency", "MaxConcurrencyPath"} & set(state)) != 1:
        yield "a Map needs either MaxConcurrency or MaxConcurrencyPath"
    if state.get("ItemProcessor", {}).get("ProcessorConfig") != {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}:
        yield "ProcessorConfig is not that of a Distributed Map of standard executions"


def _nothing(_: State) -> Iterator[str]:
    yield from ()


_SPECIFIC = {"Task": _task, "Choice": _choice, "Wait": _wait, "Fail": _fail, "Map": _map}


def _handling(state: State) -> Iterator[str]:
    for name, known in (("Retry", _RETRY_FIELDS), ("Catch", _CATCH_FIELDS)):
        rules = state.get(name, [])
        for position, rule in enumerate(rules):
            yield from (f"a {name} has no field {field}" for field in set(rule) - known)
            named = rule.get("ErrorEquals") or []
            if not named:
                yield f"a {name} without ErrorEquals"
            unknown = set(named) - OWN_ERRORS - AWS_ERRORS
            yield from (f"{name}: no error is named {error}" for error in sorted(unknown))
            if "States.ALL" in named and (len(named) > 1 or position < len(rules) - 1):
                yield f"{name}: States.ALL must be alone and last"


def _payloads(value: Any, name: str = "") -> Iterator[str]:
    """Fields that end in ``.$`` and those of the language that hold paths or intrinsic functions."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _payloads(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _payloads(inner)
    elif name.endswith((".$", "Path")) and value is not None:
        functions = set(re.findall(r"States\.(\w+)\(", str(value)))
        yield from (f"{name}: there is no function States.{function}" for function in functions - _INTRINSICS)
        if not functions and not re.match(r"^\$", str(value)):
            yield f"{name}: {value} is no path"
    elif isinstance(value, str) and value.startswith("$.") and name != "Variable":
        yield f"{name}: {value} is a path, but the field's name does not end in .$"


def _reached(machine: dict[str, Any]) -> set[str]:
    """The states of the machine that some path from its start enters."""
    return _onward(machine["States"], [machine["StartAt"]], set())


def _tight_loops(states: dict[str, State]) -> set[str]:
    """States from which a path leads back to themselves and passes no Wait."""
    waits = {name for name, state in states.items() if state.get("Type") == "Wait"}
    return {name for name in states if name in _onward(states, list(successors(states[name])), waits)}


def _onward(states: dict[str, State], ahead: list[str], closed: set[str]) -> set[str]:
    seen: set[str] = set()
    while ahead:
        name = ahead.pop()
        if name in states and name not in seen | closed:
            seen.add(name)
            ahead.extend(successors(states[name]))
    return seen
