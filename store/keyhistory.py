"""The signing keys of one log, one after the other: each but the first is introduced by the one before.

A rotation is stated in the log: a manifest names an object `signing-key`, which says the key up to
there and the key from then on (docs/FORMAT.md, "Rotation"). That manifest is the last one that the
old key signs; the head that covers it is the first one that the new key signs. Verifier keys enter
and leave; signatures are checked elsewhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scalple.ingest.errors import VerificationError
from scalple.store.note import VerifierKey

SIGNING_KEY = "signing-key"
"""The name of the object in a manifest."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What one manifest states.

    Attributes:
        n: the manifest's number.
        old: signs it, and all before it since the rotation before.
        new: signs what comes after it, and heads of more than n manifests.
    """

    n: int
    old: VerifierKey
    new: VerifierKey

    def to_bytes(self) -> bytes:
        """The object: two lines."""
        return f"{self.old.to_text()}\n{self.new.to_text()}\n".encode()

    @classmethod
    def from_bytes(cls, n: int, data: bytes) -> "Rotation":
        """The inverse of `to_bytes`.

        Raises:
            VerificationError: it isn't two different keys of one name.
        """
        try:
            old, new = map(VerifierKey.from_text, data.decode("ascii").split("\n")[:2])
        except (UnicodeDecodeError, ValueError) as error:
            raise VerificationError("a change of keys isn't two keys") from error
        found = cls(n, old, new)
        if old == new or old.name != new.name or found.to_bytes() != data:
            raise VerificationError("a change of keys isn't from one key to another one")
        return found


def key_at(first: VerifierKey, rotations: Iterable[Rotation], size: int) -> VerifierKey:
    """Which key signs the head of `size` manifests, and the manifest that comes next."""
    found = first
    for rotation in rotations:
        if rotation.n < size:
            found = rotation.new
    return found


def all_keys(first: VerifierKey, rotations: Sequence[Rotation]) -> list[VerifierKey]:
    """Every key of the log, in order.

    Raises:
        VerificationError: the first change of keys isn't from the first key.
    """
    if rotations and rotations[0].old != first:
        raise VerificationError(
            "the first change of keys is from another key",
            expected=first.to_text(),
            found=rotations[0].old.to_text(),
        )
    return [first, *(rotation.new for rotation in rotations)]
