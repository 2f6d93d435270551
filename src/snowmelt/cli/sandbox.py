"""``snowmelt sandbox``: both servers on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from snowmelt.errors import ConfigError


def sandbox(
    load: Annotated[
        Path | None, typer.Option(help="Folder of CSV or Parquet files, a table each.", exists=True, file_okay=False)
    ] = None,
    into: Annotated[str, typer.Option(help="Snowflake database and schema the files go to.")] = "SANDBOX.PUBLIC",
    env_file: Annotated[
        Path | None, typer.Option(help="Write the environment to this file too.", dir_okay=False)
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option(help="Write a config that moves what is loaded to this file.", dir_okay=False)
    ] = None,
    directory: Annotated[
        Path | None, typer.Option(help="Keep both servers' data in this folder.", file_okay=False)
    ] = None,
) -> None:
    """Start a stand-in for Snowflake and a real PostgreSQL, and stay until stopped."""
    try:
        from snowmelt_sandbox.sandbox import run
    except ModuleNotFoundError as error:
        raise ConfigError(f"the sandbox needs {error.name}; in the checkout: pip install '.[local]'") from error
    run(load=load, into=into, env_file=env_file, config_file=config_file, directory=directory)
