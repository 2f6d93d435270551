"""Words that messages, commands and reports have in common."""


def counted(count: int, one: str, many: str | None = None) -> str:
    """``1 table``, ``1,234 tables``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
