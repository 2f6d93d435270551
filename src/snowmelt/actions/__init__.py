"""What the Lambda and the CLI do: each action is safe to run twice with the same event."""

from snowmelt.actions.dispatch import ACTIONS, parse, run
from snowmelt.actions.nested_events import flattened
from snowmelt.actions.next_source import refuse_keys_of_one, together

__all__ = ["ACTIONS", "flattened", "parse", "refuse_keys_of_one", "run", "together"]
