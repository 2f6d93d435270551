"""The moment at which a fault strikes, and what the wire does to the message it strikes at."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Side = Literal["postgres", "snowflake"]
Way = Literal[
    "cut before",
    "cut half",
    "cut sent",
    "cut unanswered",
    "cut half answer",
    "delay",
    "drop",
    "refuse",
    "before",
    "instead",
    "after",
]
"""What becomes of the message.

``cut before``: it never leaves. ``cut half``: the server gets the first half of it. ``cut sent``: the server gets it,
and both lose the connection at once. ``cut unanswered``: the server has answered, and nothing of that arrives.
``cut half answer``: half of the answer arrives. ``delay``: it comes late. ``drop``: it is swallowed, and the connection
is lost a while later. ``refuse``: the server says no. ``before`` and ``after``: it passes, and something else happens
before it is sent, or when the server has answered and its client does not know. ``instead``: something else happens,
and it never leaves.
"""

CUTS: tuple[Way, ...] = ("cut before", "cut half", "cut sent", "cut unanswered", "cut half answer")


@dataclass(frozen=True)
class Moment:
    """The ``nth`` message to one of the servers whose text matches; the first is 1."""

    side: Side
    matching: str
    nth: int

    def __str__(self) -> str:
        return f"{self.side} #{self.nth} of /{self.matching}/"


@dataclass(frozen=True)
class Struck:
    """The connection that a fault strikes, as far as it is known."""

    text: str
    backend_pid: int | None = None


@dataclass(frozen=True)
class Blow:
    """What happens at the moment: an effect before, instead and after; a code and a text for a refusal."""

    way: Way
    seconds: float = 0.0
    code: str = ""
    message: str = ""
    effect: Callable[[Struck], None] = field(default=lambda _: None)


class Trap:
    """Waits for its moment, strikes once, and remembers at what."""

    def __init__(self, moment: Moment, blow: Blow) -> None:
        self.moment = moment
        self._blow = blow
        self._matching = re.compile(moment.matching)
        self.met = 0
        self._lock = threading.Lock()
        self.struck: str | None = None

    def meets(self, side: Side, text: str) -> Blow | None:
        """The blow, if this message is the one."""
        if side != self.moment.side or not self._matching.search(text):
            return None
        with self._lock:
            self.met += 1
            if self.met != self.moment.nth or self.struck is not None:
                return None
            self.struck = text[:200]
        return self._blow


class Traps:
    """The traps that are set at present; both proxies ask them about every message."""

    def __init__(self) -> None:
        self._set: tuple[Trap, ...] = ()
        self.moved_at = time.monotonic()
        """When a message was sent last."""

    def put(self, *traps: Trap) -> None:
        """Set these and no others."""
        self._set = traps

    def meets(self, side: Side, text: str) -> Blow | None:
        """The first blow that this message calls for."""
        self.moved_at = time.monotonic()
        return next((blow for trap in self._set if (blow := trap.meets(side, text))), None)
