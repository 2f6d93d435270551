"""The runs of several sources at once, each by a process of its own."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from snowmelt.cli.shared import EXIT_UNFINISHED
from snowmelt.config import SourceConfig


def apart(sources: Sequence[SourceConfig], at_once: int) -> Iterator[int]:
    """Repeat this command for each of the sources, so many at once; yields the exit code of each.

    What a process prints comes when it ends, so that results do not mix; log lines come as they are written. Ctrl-C
    reaches all of them, as they share the terminal, and each ends in order.
    """
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(_run, source.source_name) for source in sources]
        try:
            for future in futures:
                exit_code, printed = future.result()
                sys.stdout.write(printed)
                sys.stdout.flush()
                yield exit_code
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            yield EXIT_UNFINISHED


def _run(source_name: str) -> tuple[int, str]:
    arguments = [*sys.argv[1:], "--source", source_name]
    ended = subprocess.run(  # noqa: S603 - this very program
        [sys.executable, "-m", "snowmelt.cli", *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    return ended.returncode, ended.stdout
