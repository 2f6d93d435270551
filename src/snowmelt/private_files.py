"""Write files that nobody else on the machine may read: plans and reports hold names, figures and bounds of rows."""

import os
import stat
from pathlib import Path

_FILE, _FOLDER = 0o600, 0o700


def write(path: Path, content: bytes) -> None:
    """Write the file so that its owner alone may read it, also where it was there with wider rights."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE)
    with os.fdopen(descriptor, "wb") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # not a pipe, a terminal or /dev/null
            os.fchmod(file.fileno(), _FILE)
        file.write(content)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, that its owner alone may enter; one that is there stays as it is."""
    missing = [path, *path.parents]
    for folder in reversed([each for each in missing if not each.exists()]):
        folder.mkdir(mode=_FOLDER, exist_ok=True)
