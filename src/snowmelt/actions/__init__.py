"""What the Lambda and the CLI do: each action is safe to run twice with the same event."""

from snowmelt.actions.dispatch import parse, run

__all__ = ["parse", "run"]
