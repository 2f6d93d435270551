"""What `sam build` made, run on this machine as Lambda would run it."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snowmelt.errors import ConfigError
from snowmelt_sandbox.aws import jail
from snowmelt_sandbox.aws.jail import Jail
from snowmelt_sandbox.aws.stack import LocalAws
from snowmelt_sandbox.aws.template import read_template

MEGABYTE = 1_000_000
LIMIT_MEGABYTES = 250
"""What Lambda takes unzipped, function and layers together. It counts 250 MiB; this is the stricter reading."""
MOST_MEGABYTES = 200
"""What ours may take, so that an update of a dependency does not end at the limit."""
CONFIG_KEY = "config.json"
SECRET = "snowmelt"  # noqa: S105 - its name
_PYTHON_FACTS = 'import sys; print(sys.base_prefix); print("python%d.%d" % sys.version_info[:2])'


@dataclass(frozen=True)
class Built:
    """The artifacts of function and layer, and what the template grants them."""

    task: Path
    layer: Path
    definition: Path
    handler: str
    runtime: str
    memory_mb: int
    variables: Mapping[str, str]
    """Those of the function's environment variables that are the same in every account."""

    @property
    def size_bytes(self) -> int:
        """What both take unzipped."""
        return folder_bytes(self.task) + folder_bytes(self.layer)

    def deployed(
        self,
        *,
        runtime_packages: Path,
        python: Path,
        config: Path,
        secret: Mapping[str, str],
        timeout_seconds: float,
        concurrency: int,
        log_file: Path | None = None,
    ) -> "DeployedBuild":
        """The stack with these artifacts: read-only but for /tmp, config in S3, connections in Secrets Manager.

        ``runtime_packages`` is a folder with what Lambda's own runtime brings: its client and boto3. ``python`` must
        be of the template's version.
        """
        jail.refuse_if_impossible()
        here = Jail(self.task, self.layer, runtime_packages, self._prefix_of(python))
        aws = LocalAws(
            {
                **self.variables,
                **here.environment(),
                "AWS_EXECUTION_ENV": f"AWS_Lambda_{self.runtime}",
                "SNOWMELT_CONFIG": f"s3://snowmelt/{CONFIG_KEY}",
                "SNOWMELT_STORE": "s3://snowmelt/store",
                "SNOWMELT_SECRET_ID": SECRET,
            },
            self.definition,
            handler=self.handler,
            interpreter=here.interpreter(),
            memory_mb=self.memory_mb,
            timeout_seconds=timeout_seconds,
            concurrency=concurrency,
            log_file=log_file,
        )
        return DeployedBuild(aws, config, secret)

    def _prefix_of(self, python: Path) -> Path:
        try:
            facts = subprocess.run([python, "-c", _PYTHON_FACTS], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ConfigError(f"{python} is no Python that runs: {error}") from error
        prefix, version = facts.stdout.split()
        if version != self.runtime:
            raise ConfigError(f"{python} is {version}, and the function is built for {self.runtime}; name one of those")
        return Path(prefix)


@dataclass(frozen=True)
class DeployedBuild:
    """A stack that is not started yet, and what is put into it when it is."""

    aws: LocalAws
    config: Path
    secret: Mapping[str, str]

    def __enter__(self) -> LocalAws:
        self.aws.start()
        self.aws.s3().put_object(Bucket=self.aws.bucket, Key=CONFIG_KEY, Body=self.config.read_bytes())
        self.aws.secrets().create_secret(Name=SECRET, SecretString=json.dumps(dict(self.secret)))
        return self.aws

    def __exit__(self, *_: object) -> None:
        self.aws.stop()


def read(template: Path) -> Built:
    """What the template that `sam build` wrote names; ConfigError when it has not been built."""
    if not template.is_file():
        raise ConfigError(f"{template} is not there; run sam build, or scripts/check-deployment --build")
    built = read_template(template)
    function = built["Resources"]["Function"]["Properties"]
    layer = built["Resources"]["DependenciesLayer"]["Properties"]
    machine = built["Resources"]["StateMachine"]["Properties"]
    return Built(
        task=template.parent / function["CodeUri"],
        layer=template.parent / layer["ContentUri"],
        definition=template.parent / machine["DefinitionUri"],
        handler=function["Handler"],
        runtime=function["Runtime"],
        memory_mb=int(_default(built, function["MemorySize"])),
        variables={
            name: value for name, value in function["Environment"]["Variables"].items() if isinstance(value, str)
        },
    )


def folder_bytes(folder: Path) -> int:
    """What the files below it hold, as Lambda counts them."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def _default(template: Mapping[str, Any], value: Any) -> Any:
    return template["Parameters"][value["Ref"]]["Default"] if isinstance(value, dict) else value
