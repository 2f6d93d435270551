"""Runs, their drivers, tables and chunks: who holds what, what comes next, and the status schema that says so."""
