"""``python -m snowmelt_sandbox.selftest``: the self-test between this machine's stand-ins, under hostile defaults."""

import os
import signal
import subprocess
import sys

from snowmelt.cli import console
from snowmelt_sandbox.child_process import start_child
from snowmelt_sandbox.sandbox import started
from snowmelt_sandbox.snowflake import HOSTILE

DATABASE = "SELFTEST"


def main(options: list[str]) -> int:
    """Run it with those options, and return its exit code."""
    console.err.print("starting a stand-in for Snowflake and a real PostgreSQL")
    with started(account_parameters=HOSTILE) as sandbox:
        sandbox.snowflake.create_schema(DATABASE, "PUBLIC")
        places = ("--snowflake-database", DATABASE, "--postgres-database", "postgres")
        before = signal.signal(signal.SIGINT, lambda *_: None)  # the command has it too, and clears up first
        try:
            process = start_child(
                [sys.executable, "-m", "snowmelt.cli", "selftest", "--yes", *places, *options],
                env={**_without_accounts(), **sandbox.environment()},
                stdin=subprocess.DEVNULL,
            )
            return process.wait()
        finally:
            signal.signal(signal.SIGINT, before)


def _without_accounts() -> dict[str, str]:
    """This process's environment, but for what leads to an account of the user's."""
    ours = ("SNOWFLAKE_", "POSTGRES_", "PG", "SNOWMELT_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
