"""What a bench finds: figures, each with its unit and, where it has one, its limit."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One number; ``at_most`` is what it must not exceed, ``at_least`` what it must reach."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the figure is within its limits; one without limits always is."""
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    def __str__(self) -> str:
        limits = ((self.at_most, "at most", "EXCEEDED"), (self.at_least, "at least", "MISSED"))
        said = "".join(
            f"  ({word} {limit:g}: {'kept' if self.kept else failed})"
            for limit, word, failed in limits
            if limit is not None
        )
        return f"{self.name} {self.value:g} {self.unit}{said}"
