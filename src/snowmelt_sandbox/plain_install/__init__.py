"""A folder that, first on a process's import path, hides packages that only the stand-ins brought to this machine.

The connector loads pandas wherever it finds it, for nothing that the migration uses. The layer has none, so neither has
the function here: what runs is what is deployed, at the start-up time and with the memory of what is deployed.
"""

from pathlib import Path

PYTHONPATH = str(Path(__file__).parent)
"""For the environment of such a process."""
