"""What every section of the configuration has in common: unknown keys are refused, nothing changes."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the TOML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _with_actor(text: str) -> str:
    try:
        groups = re.compile(text).groupindex
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from error
    if "actor" not in groups:
        raise ValueError("lacks the group (?P<actor>…)")
    return text


Pattern = Annotated[str, AfterValidator(_with_actor)]
"""A regular expression that finds an actor."""
