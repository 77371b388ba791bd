"""Queries that have a file of their own."""

from importlib import resources


def sql_file(name: str) -> str:
    """The text of a .sql file of this folder."""
    return resources.files("scalple.store").joinpath(name).read_text("utf-8")
