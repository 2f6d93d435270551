"""Names that break what quotes carelessly."""

TABLE = 'x"; drop schema public cascade; --'


DATA = '\'); drop table kept; -- $1 %(name)s {0} \\N \\. "quoted"'


def quoted(name: str) -> str:
    """As a config writes an exact name."""
    return '"' + name.replace('"', '""') + '"'
