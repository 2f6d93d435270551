"""Stands before the real one on the import path of processes that are to find no more than a plain install has."""

raise ModuleNotFoundError("numpy is not among the project's own packages", name="numpy")
