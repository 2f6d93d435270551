"""Rows that PostgreSQL refuses: isolated, kept with the reason, exported, replayed after a fix."""
