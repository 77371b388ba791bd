"""People whom clients name in their own words: in comments, variables and application names.

Enters: what was said. Leaves: a code for each distinct one, and the actor and e-mail behind the codes,
through the operator's map where it knows them: an external identity (`metabase:5`) or an e-mail address.
"""

import re

import pyarrow as pa

from scalple.correlate.rules import Actors
from scalple.ingest.records import TEXT

CHARS_MAX = 256
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Claimants:
    """Codes of all who were named so far.

    Args:
        actors: who is behind external identities and e-mail addresses.
    """

    def __init__(self, actors: Actors) -> None:
        self._identities = actors.identities
        self._emails = actors.emails
        owners: dict[str, set[str]] = {}
        for actor, email in actors.emails.items():
            owners.setdefault(email.lower(), set()).add(actor)
        # An address that two people share names neither.
        self._owner = {email: who.pop() for email, who in owners.items() if len(who) == 1}
        self._codes: dict[tuple[str, str | None], int] = {}

    def code(self, said: str) -> int:
        """The code of whoever that names, or -1 if it is no name."""
        text = said.strip()
        if not text or len(text) > CHARS_MAX or _UNPRINTABLE.search(text):
            return -1
        actor = self._identities.get(text) or self._owner.get(text.lower()) or text
        email = self._emails.get(actor) or (actor if "@" in actor else None)
        return self._codes.setdefault((actor, email), len(self._codes))

    def actors(self) -> pa.Array:
        """Per code the actor."""
        return pa.array([actor for actor, _ in self._codes], TEXT)

    def emails(self) -> pa.Array:
        """Per code the e-mail address, if one is known."""
        return pa.array([email for _, email in self._codes], TEXT)

    def codes_of(self, texts: list[str | None]) -> list[int]:
        """Codes of actors as the other columns hold them; -1 for who was never named."""
        known = {actor: code for (actor, _), code in self._codes.items()}
        return [known.get(one, -1) if one is not None else -1 for one in texts]
