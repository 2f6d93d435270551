"""Migrations that are disturbed at chosen moments, and what is in the target after they were allowed to finish."""
