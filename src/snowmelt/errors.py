"""What can go wrong, sorted by what the reader should do about it.

    SnowmeltError
    ├── ConfigError      mend the config, the event or the call      exit code 2
    ├── AccessError      mend an account: sign-in, network, grants   exit code 1
    ├── TransientError   nothing to mend: try again                  exit code 1, retried by the workflow
    ├── DataError        look at the data or the target table        exit code 1
    │   └── RejectedRowsError   rows hold values the target cannot take
    ├── HeldError        someone else holds the run or the table     exit code 1
    ├── FencedError      this worker's claim is no longer valid      never leaves an action
    └── StalledError     the run stopped moving                      exit code 1

Every message is one line: what happened, where, and what to do.
"""

from collections.abc import Iterable


class SnowmeltError(Exception):
    """Something Snowmelt can explain."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))

    @property
    def message(self) -> str:
        """The whole explanation on one line."""
        return str(self.args[0])

    @property
    def code(self) -> str:
        """A stable name for the kind of error, the same in status rows, logs and Step Functions."""
        return type(self).__name__


class ConfigError(SnowmeltError):
    """The config, an event or a command line asks for something that cannot be done."""

    exit_code = 2

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join((message, *self.problems)) if self.problems else message)


class AccessError(SnowmeltError):
    """A server cannot be reached, refuses the sign-in, or withholds a privilege."""


class TransientError(SnowmeltError):
    """A failure that passes by itself: a lost connection, a deadlock, a server that restarts."""


class DataError(SnowmeltError):
    """The data or the tables do not allow what was asked."""


class RejectedRowsError(DataError):
    """Rows hold a value that the target cannot take, and nothing says what else to do with it."""


class HeldError(SnowmeltError):
    """Another living run or execution holds what this one needs."""


class FencedError(SnowmeltError):
    """The chunk was given to someone else, or its table moved on; nothing of this attempt is kept."""


class StalledError(SnowmeltError):
    """The run made no progress and was ended rather than left to turn for ever."""
