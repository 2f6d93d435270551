"""Snowmelt moves tables out of Snowflake into PostgreSQL, every row exactly once."""

__version__ = "0.1.0"
