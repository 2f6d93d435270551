"""What the Lambda and the CLI do: each action is safe to run twice with the same event."""

from snowmelt.actions.dispatch import ACTIONS, flattened, parse, run

__all__ = ["ACTIONS", "flattened", "parse", "run"]
