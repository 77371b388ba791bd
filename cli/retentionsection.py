"""`[retention]`: how long records are kept. Without it nothing ever expires."""

from typing import Annotated

from pydantic import AfterValidator

from scalple.cli.section import Section
from scalple.store.retentionage import Age, Policy, combined


def _age(text: str) -> str:
    Age.parse(text)
    return text


AgeText = Annotated[str, AfterValidator(_age)]


class RetentionSection(Section):
    """Profiles of the law, and the operator's own ages."""

    profiles: tuple[str, ...] = ()
    keep_at_least: AgeText | None = None
    keep_at_most: AgeText | None = None

    def policy(self) -> Policy:
        """What they mean together.

        Raises:
            ConfigError: no such profile, or a minimum that is above a maximum.
        """
        least, most = (
            Age.parse(one) if one else None for one in (self.keep_at_least, self.keep_at_most)
        )
        return combined(self.profiles, least, most)
