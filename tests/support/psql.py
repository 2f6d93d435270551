"""What psql makes of a file or of what is typed, as an operator's own would."""

import subprocess

from snowmelt_sandbox.postgres_programs import find_programs


def run_psql(
    dsn: str, *options: str, types: str = "", within_seconds: float = 60, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Let psql, without anyone's settings, do as the options say with these variables, for who types that."""
    assigned = [f"--set={name}={value}" for name, value in variables.items()]
    return subprocess.run(
        [find_programs() / "psql", "--no-psqlrc", "--dbname", dsn, *assigned, *options],
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        input=types,
        timeout=within_seconds,
    )
