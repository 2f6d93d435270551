"""S3, Secrets Manager and the API of Step Functions on one machine: moto behind HTTP."""

import json
import logging
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_stepfunctions import SFNClient

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
_LOGGERS = ("moto", "werkzeug")


class MotoService:
    """A moto server in this process, empty at its start; there is one set of contents per process."""

    def __init__(self) -> None:
        self._server: BaseWSGIServer | None = None
        self._quiet = ExitStack()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start the server; state machines will be executed, not merely stored."""
        self._quiet.enter_context(_quiet_loggers())
        application = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, application, threaded=True)
        # Not moto's own ThreadedMotoServer, which takes half a second to stop.
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="moto", daemon=True).start()
        self._post("reset")
        self._post("config", {"stepfunctions": {"execute_state_machine": True}})
        return self

    def stop(self) -> None:
        """Stop the server; what it held is gone."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self._quiet.close()

    @property
    def url(self) -> str:
        """The endpoint for all AWS clients but Lambda's."""
        assert self._server is not None, "start() first"  # noqa: S101
        return f"http://127.0.0.1:{self._server.port}"

    def _post(self, what: str, body: dict[str, Any] | None = None) -> None:
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}/moto-api/{what}", data=json.dumps(body or {}).encode(), method="POST"
        )
        with urllib.request.urlopen(request):  # noqa: S310
            pass


@cache
def aws_session() -> boto3.session.Session:
    """Return a session for this machine's services; one, because it reads the services' models again."""
    return boto3.session.Session(
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=REGION,
    )


def s3_client(url: str) -> "S3Client":
    """Return a client of the S3 at that endpoint."""
    return aws_session().client("s3", endpoint_url=url)


def secrets_client(url: str) -> "SecretsManagerClient":
    """Return a client of the Secrets Manager at that endpoint."""
    return aws_session().client("secretsmanager", endpoint_url=url)


def step_functions_client(url: str) -> "SFNClient":
    """Return a client of the Step Functions at that endpoint."""
    return aws_session().client("stepfunctions", endpoint_url=url)


def create_bucket(url: str, name: str) -> None:
    """Create a bucket unless it is there."""
    s3 = s3_client(url)
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=name)


@contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Silence what reports every request, and every failed task with its stack."""
    before = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in before:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
