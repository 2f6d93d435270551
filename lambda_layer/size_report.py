"""Say what function and layer take unzipped, by package; fail when it is more than they may take together.

    python size_report.py FOLDER...

Lambda refuses more than 250 MB. Ours ends well before, so that an update of a dependency does not end at the limit.
"""

import sys
from collections import Counter
from pathlib import Path

LIMIT_MEGABYTES = 250
MOST_MEGABYTES = 200
SHOWN = 12


def main(folders: list[str]) -> int:
    """Print the report; 1 when the folders hold too much."""
    sizes: Counter[str] = Counter()
    for folder in map(Path, folders):
        for file in folder.rglob("*"):
            if file.is_file() and not file.is_symlink():
                sizes[package(file.relative_to(folder))] += file.stat().st_size
    total = sizes.total() / 1e6
    for name, size in sizes.most_common(SHOWN):
        print(f"{size / 1e6:8.1f} MB  {name}", file=sys.stderr)
    rest = sum(size for _, size in sizes.most_common()[SHOWN:])
    print(f"{rest / 1e6:8.1f} MB  {max(0, len(sizes) - SHOWN)} others", file=sys.stderr)
    print(f"{total:8.1f} MB  of {MOST_MEGABYTES} that are ours of Lambda's {LIMIT_MEGABYTES}", file=sys.stderr)
    if total > MOST_MEGABYTES:
        print(
            f"too large: leave out {total - MOST_MEGABYTES:.1f} MB, see `strip` in lambda_layer/Makefile",
            file=sys.stderr,
        )
        return 1
    return 0


def package(file: Path) -> str:
    """The package a file belongs to: its topmost folder, below ``python`` in a layer."""
    parts = file.parts[1:] if file.parts[0] == "python" else file.parts
    return parts[0].split("-")[0] if parts else file.name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
