"""The whole deployment on one machine: function, state machine, bucket, secrets."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from snowmelt_sandbox.aws.execution_environment import Function, RuntimeProcess
from snowmelt_sandbox.aws.lambda_service import LocalLambda
from snowmelt_sandbox.aws.moto_service import CREDENTIALS, REGION, MotoService, create_bucket, s3_client, secrets_client
from snowmelt_sandbox.aws.step_functions import LocalStepFunctions
from snowmelt_sandbox.plain_install import PYTHONPATH

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient

MEMORY_SETTINGS = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_MMAP_THRESHOLD_": "1048576"}
"""As the template sets them."""
HANDLER = "snowmelt.lambda_handler.handler"
_PATIENT_INIT_SECONDS = 60.0
"""Beyond Lambda's ten: here all processes, and the servers they talk to, share one machine's processors."""


class LocalAws:
    """Lambda, Step Functions, S3 and Secrets Manager, wired as the template wires them.

    ``function_environment`` is the function's own; where the services are is added to it. ``definition`` is
    the ASL file; of its placeholders, FunctionArn, Partition and Bucket are known here, and ``substitutions`` are
    the rest. ``interpreter`` starts Python, by default this one, where ``start_process`` does not start processes
    otherwise. What is stored ends with this process, unless ``storage_url`` is a ``MotoService`` that outlives it.
    """

    functions: LocalLambda
    step_functions: LocalStepFunctions

    def __init__(
        self,
        function_environment: Mapping[str, str],
        definition: Path,
        *,
        substitutions: Mapping[str, str] | None = None,
        handler: str = HANDLER,
        code_directory: Path | None = None,
        interpreter: Sequence[str] = (sys.executable,),
        timeout_seconds: float = 900.0,
        init_seconds: float = _PATIENT_INIT_SECONDS,
        concurrency: int = 10,
        memory_mb: int = 1024,
        bucket: str = "snowmelt",
        log_file: Path | None = None,
        storage_url: str | None = None,
        time_scale: float = 1.0,
        start_process: Callable[[Function, Mapping[str, str], int], RuntimeProcess] | None = None,
    ) -> None:
        self.bucket = bucket
        self._definition = definition
        self._function = Function(
            handler=handler,
            code_directory=code_directory or Path("/"),  # nothing of this machine's folders by accident
            interpreter=tuple(interpreter),
            timeout_seconds=timeout_seconds,
            init_seconds=init_seconds,
            memory_mb=memory_mb,
            environment={"PYTHONPATH": PYTHONPATH, **function_environment},
            region=REGION,
            start=start_process,
        )
        self._substitutions = {
            "FunctionArn": self._function.arn,
            "Partition": "aws",
            "Bucket": bucket,
            **(substitutions or {}),
        }
        self._concurrency = concurrency
        self._log_file = log_file
        self._storage_url = storage_url
        self._time_scale = time_scale
        self._context = ExitStack()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start everything; processes of the function start with the first events."""
        with ExitStack() as starting:
            self._moto = starting.enter_context(MotoService())
            create_bucket(self.storage_url, self.bucket)
            environment = {**self._function.environment, **self._service_environment()}
            self.functions = starting.enter_context(
                LocalLambda(
                    replace(self._function, environment=environment),
                    concurrency=self._concurrency,
                    log_file=self._log_file,
                )
            )
            self.step_functions = starting.enter_context(
                LocalStepFunctions(
                    self._moto.url,
                    self._definition,
                    substitutions=self._substitutions,
                    endpoints={"lambda": self.functions.url, "": self.storage_url},
                    time_scale=self._time_scale,
                )
            )
            self._context = starting.pop_all()
        return self

    def stop(self) -> None:
        """Stop executions, processes and servers."""
        self._context.close()

    @property
    def storage_url(self) -> str:
        """The endpoint of S3 and Secrets Manager."""
        return self._storage_url or self._moto.url

    def environment(self) -> dict[str, str]:
        """Return the variables by which any AWS client finds these services."""
        return {**self._service_environment(), "AWS_ENDPOINT_URL_LAMBDA": self.functions.url}

    def s3(self) -> "S3Client":
        """Return a client of the S3 that the function uses."""
        return s3_client(self.storage_url)

    def secrets(self) -> "SecretsManagerClient":
        """Return a client of the Secrets Manager that the function uses."""
        return secrets_client(self.storage_url)

    def _service_environment(self) -> dict[str, str]:
        return {
            **CREDENTIALS,
            **MEMORY_SETTINGS,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.storage_url,
            "AWS_ENDPOINT_URL_SFN": self._moto.url,
        }
