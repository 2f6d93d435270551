"""An interpreter with version 5 of Snowflake's connector; the stand-in for Snowflake cannot be run by it."""

import subprocess
import sys
import venv
from pathlib import Path

VERSION = "5.2.0"
PROTOBUF = "6.33.6"
"""What its core is spoken to in; the other packages are those of this environment."""
_SOURCE = Path(__file__).parents[2] / "src"


class NotInstalledError(Exception):
    """No package index gives it; the text has its last words."""


def make_environment(home: Path) -> Path:
    """Make an environment in that folder that finds connector 5 before this environment's packages; its interpreter."""
    venv.create(home, with_pip=False)
    (packages,) = home.glob("lib/python3*/site-packages")
    (mine,) = Path(sys.prefix).glob("lib/python3*/site-packages")
    wanted = [f"snowflake-connector-python=={VERSION}", f"protobuf=={PROTOBUF}"]
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--disable-pip-version-check"]
    installed = subprocess.run([*pip, "--target", packages, *wanted], capture_output=True, text=True, check=False)
    if installed.returncode != 0:
        raise NotInstalledError(f"no package index gives {' and '.join(wanted)}: {installed.stderr[-300:]}")
    (packages / "others.pth").write_text(f"{_SOURCE}\n{mine}\n", encoding="utf-8")
    return home / "bin" / "python"
