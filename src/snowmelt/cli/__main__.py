"""``python -m snowmelt.cli`` is ``snowmelt``."""

from snowmelt.cli import main

main()
