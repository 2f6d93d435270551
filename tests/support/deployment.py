"""The deployment of this machine as a process that can be killed: one execution, and how it ended as a line of JSON."""

import json
import sys
from pathlib import Path
from typing import Any

from snowmelt_sandbox.aws import LocalAws


def main() -> None:
    """Run it; the one argument is JSON: the function's environment, the definition, where S3 is, and the log file."""
    options = json.loads(sys.argv[1])
    with LocalAws(
        options["environment"],
        Path(options["definition"]),
        timeout_seconds=60.0,
        storage_url=options["storage_url"],
        log_file=Path(options["log_file"]),
    ) as aws:
        execution = aws.step_functions.run()
        ended = {
            "status": execution.status,
            "cause": execution.cause,
            "output": execution.output,
            "run": validated(aws.step_functions.history(execution.arn)),
            "invocations": aws.functions.statistics().invocations,
        }
    sys.stdout.write(json.dumps(ended))


def validated(history: list[dict[str, Any]]) -> Any:
    """The run that ValidateConfig opened or resumed, with its message."""
    for event in history:
        details = event.get("stateExitedEventDetails", {})
        if details.get("name") == "ValidateConfig":
            return json.loads(details["output"])["run"]
    return None


if __name__ == "__main__":
    main()
