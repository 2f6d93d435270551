"""A process with the file system of Lambda: code, layer and runtime where AWS puts them, and only /tmp to write."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from snowmelt.errors import AccessError

TASK_ROOT = "/var/task"
LAYER_ROOT = "/opt"
RUNTIME_ROOT = "/var/runtime"
TMP_MEGABYTES = 512
"""As much as Lambda gives unless told otherwise."""

_NOBODY = 65534
_SCRIPT = f"""
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /var
mkdir {TASK_ROOT} {RUNTIME_ROOT} /var/lang
mount --bind "$1" {TASK_ROOT}
mount --bind "$2" {LAYER_ROOT}
mount --bind "$3" {RUNTIME_ROOT}
mount --bind "$4" /var/lang
shift 4
mount -t tmpfs -o mode=1777,size={TMP_MEGABYTES}m tmpfs /tmp
while read -r _ point _; do
    case "$point" in
        /tmp|/proc|/proc/*|/sys|/sys/*|/dev|/dev/pts|/dev/mqueue) ;;
        *) mount -o remount,bind,ro "$point" 2>/dev/null || true ;;
    esac
done < /proc/mounts
cd {TASK_ROOT}
exec setpriv --reuid={_NOBODY} --regid={_NOBODY} --clear-groups --no-new-privs --pdeathsig=KILL \\
    /var/lang/bin/python3 "$@"
"""


@dataclass(frozen=True)
class Jail:
    """What is mounted: the artifacts of function and layer, the packages of the runtime, and a Python.

    A mount that cannot be made read-only stays as it is, but belongs to someone else: the process is nobody's.
    """

    task: Path
    layer: Path
    runtime: Path
    python: Path

    def interpreter(self) -> tuple[str, ...]:
        """The words that start Python inside. They need root, or a kernel that lets everyone have namespaces."""
        folders = (self.task, self.layer, self.runtime, self.python)
        return (*_unshare(), "/bin/sh", "-c", _SCRIPT, "jail", *(str(folder.resolve()) for folder in folders))

    def environment(self) -> dict[str, str]:
        """What the process must know of where things are, in the order in which Lambda imports."""
        return {
            "LAMBDA_TASK_ROOT": TASK_ROOT,
            "LAMBDA_RUNTIME_DIR": RUNTIME_ROOT,
            "PYTHONPATH": f"{LAYER_ROOT}/python:{RUNTIME_ROOT}",
            "PATH": f"/var/lang/bin:{os.defpath}",
            "LD_LIBRARY_PATH": f"/var/lang/lib:{RUNTIME_ROOT}:{TASK_ROOT}:{LAYER_ROOT}/lib",
        }


def refuse_if_impossible() -> None:
    """AccessError when this machine lets nobody, or not this user, change what a process sees."""
    missing = [name for name in ("unshare", "setpriv", "mount") if shutil.which(name) is None]
    if missing:
        raise AccessError(f"{', '.join(missing)} not found; a read-only file system needs Linux with util-linux")
    tried = subprocess.run(
        [*_unshare(), "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        raise AccessError(
            f"this user may not have a file system of its own ({tried.stderr.strip()}); run as root, or in a container "
            "with CAP_SYS_ADMIN"
        )


def _unshare() -> tuple[str, ...]:
    return ("unshare", "--mount", "--propagation", "private", "--")
