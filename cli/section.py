"""What every section of the configuration has in common: unknown keys are refused, nothing changes."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the TOML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
