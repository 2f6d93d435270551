"""What a bench finds: figures, each with its unit and, where it has one, its limit."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One number; ``at_most`` is what it must not exceed."""

    name: str
    value: float
    unit: str
    at_most: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the figure is within its limit; one without a limit always is."""
        return self.at_most is None or self.value <= self.at_most

    def __str__(self) -> str:
        limit = "" if self.at_most is None else f"  (at most {self.at_most:g}: {'kept' if self.kept else 'EXCEEDED'})"
        return f"{self.name} {self.value:g} {self.unit}{limit}"
