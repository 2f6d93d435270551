"""Where manifests, frozen plans and reports are kept: a bucket on AWS, a folder on one machine."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from snowmelt import private_files
from snowmelt.errors import AccessError, ConfigError, DataError, MissingError, TransientError
from snowmelt.models import DryRunPlan, Location, RunPlan, TablePlan, WorkItem
from snowmelt.wording import WITH_NO_RESUME

_Plan = TypeVar("_Plan", RunPlan, TablePlan)


class Store(Protocol):
    """Objects by key. What is written is there for every process that is told the key."""

    @property
    def uri(self) -> str:
        """How the environment names this store."""
        ...

    def put(self, key: str, content: bytes) -> Location:
        """Keep the content under the key."""
        ...

    def get(self, key: str) -> bytes:
        """The content; DataError when there is none."""
        ...

    def at(self, location: Location) -> bytes:
        """The content of an object by what ``put`` said of it."""
        ...


class FolderStore:
    """A store in a folder; its locations name the folder as the bucket."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser().resolve()

    @property
    def uri(self) -> str:
        """The folder."""
        return str(self._folder)

    def put(self, key: str, content: bytes) -> Location:
        """Write the file whole: a reader sees the old content or the new, never a part."""
        path = self._path(key)
        try:
            private_files.make_folder(path.parent)
            partial = path.with_name(path.name + ".part")
            private_files.write(partial, content)
            partial.replace(path)
        except OSError as error:
            raise AccessError(
                f"cannot write {path}: {error.strerror}; set SNOWMELT_STORE to a folder that is writable"
            ) from error
        return Location(bucket=self.uri, key=key)

    def get(self, key: str) -> bytes:
        """Read the file."""
        path = self._path(key)
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise MissingError(
                f"{path} is not there; check that SNOWMELT_STORE is the one the run began with"
            ) from error
        except OSError as error:
            raise AccessError(f"cannot read {path}: {error.strerror}") from error

    def _path(self, key: str) -> Path:
        """Return the file of a key; ConfigError for a key that leads out of the store."""
        if "\0" in key or not (self._folder / key).resolve().is_relative_to(self._folder):
            raise ConfigError(f"{key!r} names nothing in the store {self._folder}; check the id of the run")
        return self._folder / key

    def at(self, location: Location) -> bytes:
        """Read the file, whose key is that of this folder."""
        return self.get(location.key)


class S3Store:
    """A store in a bucket, under a prefix."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._s3 = boto3.client("s3")

    @property
    def uri(self) -> str:
        """Bucket and prefix."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put(self, key: str, content: bytes) -> Location:
        """Put the object; S3 shows it whole or not at all."""
        full = self._prefix + key
        try:
            self._s3.put_object(Bucket=self._bucket, Key=full, Body=content, ContentType=_content_type(key))
        except (ClientError, BotoCoreError) as error:
            raise _store_error(error, f"s3://{self._bucket}/{full}") from error
        return Location(bucket=self._bucket, key=full)

    def get(self, key: str) -> bytes:
        """Get the object."""
        return read_s3(self._bucket, self._prefix + key, client=self._s3)

    def at(self, location: Location) -> bytes:
        """Get the object, whose key is whole: the prefix is in it."""
        return read_s3(location.bucket, location.key, client=self._s3)


def _content_type(key: str) -> str:
    """What a browser is told of the object."""
    return "text/html; charset=utf-8" if key.endswith(".html") else "application/json"


def open_store(uri: str) -> Store:
    """The store that ``s3://bucket/prefix`` or a folder's path names."""
    parts = urlsplit(uri)
    if parts.scheme == "s3":
        if not parts.netloc:
            raise ConfigError(f"SNOWMELT_STORE={uri} names no bucket; write s3://bucket/prefix")
        return S3Store(parts.netloc, parts.path)
    if "://" in uri:
        raise ConfigError(f"SNOWMELT_STORE={uri} is neither s3://bucket/prefix nor a folder")
    return FolderStore(Path(uri))


def read_s3(bucket: str, key: str, *, client: Any = None) -> bytes:
    """An object of S3."""
    try:
        return bytes((client or boto3.client("s3")).get_object(Bucket=bucket, Key=key)["Body"].read())
    except (ClientError, BotoCoreError) as error:
        raise _store_error(error, f"s3://{bucket}/{key}") from error


def _store_error(error: Exception, place: str) -> AccessError | DataError | TransientError:
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
    if code in ("NoSuchKey", "NoSuchBucket", "404"):
        return MissingError(f"{place} is not there ({code}); check SNOWMELT_STORE and SNOWMELT_CONFIG")
    if code in ("AccessDenied", "403", "NoCredentialsError", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return AccessError(f"{place}: {code}; let the role read and write this bucket")
    return TransientError(f"{place}: {error}")


# --- what is kept ---------------------------------------------------------------------------------------------------


def save_run(store: Store, plan: RunPlan, tables: Sequence[TablePlan]) -> None:
    """Freeze a run's plans; each table in an object of its own, as a worker needs only one."""
    for table in tables:
        store.put(_table_key(plan.run_id, table.table_id), table.model_dump_json().encode())
    store.put(f"runs/{plan.run_id}/run.json", plan.model_dump_json(indent=1).encode())


def save_dry_run(store: Store, name: str, plan: DryRunPlan) -> Location:
    """What a run would do, for someone to read."""
    return store.put(f"dry-runs/{name}.json", plan.model_dump_json(indent=1).encode())


def load_dry_run(store: Store, location: Location) -> DryRunPlan:
    """What a dry run found."""
    return DryRunPlan.model_validate_json(store.at(location))


def load_run(store: Store, run_id: str) -> RunPlan:
    """Return the frozen plan of a run; MissingError says how to go on without it."""
    return _parsed(RunPlan, store, run_id, f"runs/{run_id}/run.json")


def load_table(store: Store, run_id: str, table_id: int) -> TablePlan:
    """Return the frozen plan of one of its tables; MissingError says how to go on without it."""
    return _parsed(TablePlan, store, run_id, _table_key(run_id, table_id))


def _parsed(kind: type[_Plan], store: Store, run_id: str, key: str) -> _Plan:
    """Return the plan under a key; DataError, which quotes nothing of it, for what is no plan."""
    try:
        return kind.model_validate_json(_get(store, run_id, key))
    except ValidationError as error:
        what = f"{error.error_count()} problems, the first at {error.errors(include_input=False)[0]['loc']}"
    raise DataError(f"{key} in the store {store.uri} is no plan of this version ({what}); look who writes to the store")


def save_row_counts(store: Store, run_id: str, query_id: str, row_counts: Sequence[int]) -> None:
    """Keep the row count of every result batch of a scan, for workers to compare."""
    store.put(f"runs/{run_id}/scans/{query_id}.json", json.dumps(list(row_counts)).encode())


def load_row_counts(store: Store, run_id: str, query_id: str) -> tuple[int, ...]:
    """Return the row counts that the scan was planned with; MissingError says how to go on without them."""
    return tuple(json.loads(_get(store, run_id, f"runs/{run_id}/scans/{query_id}.json")))


def save_manifest(store: Store, run_id: str, name: str, items: Sequence[WorkItem]) -> Location:
    """The JSON array the Map reads, under a name that is never used twice."""
    body = json.dumps([item.model_dump() for item in items], separators=(",", ":"))
    return store.put(f"runs/{run_id}/manifests/{name}.json", body.encode())


def load_manifest(location: Location, store: Store) -> tuple[WorkItem, ...]:
    """The items of a manifest of this store, for those who are their own Map."""
    return tuple(WorkItem.model_validate(item) for item in json.loads(store.at(location)))


def save_report(store: Store, run_id: str, report: str) -> Location:
    """The run's report, as JSON."""
    return store.put(f"runs/{run_id}/report.json", report.encode())


def save_report_page(store: Store, run_id: str, page: str) -> Location:
    """The run's report, as one HTML file."""
    return store.put(f"runs/{run_id}/report.html", page.encode())


def _get(store: Store, run_id: str, key: str) -> bytes:
    try:
        return store.get(key)
    except MissingError as error:
        raise MissingError(
            f"run {run_id}: {error.message}; where it was deleted, the run cannot go on: start {WITH_NO_RESUME}"
        ) from error


def _table_key(run_id: str, table_id: int) -> str:
    return f"runs/{run_id}/tables/{table_id:05}.json"
