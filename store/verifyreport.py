"""What `verify` found: how much is intact, and every fault with its place.

Counts and faults enter, one report leaves. It judges nothing and prints nothing.
"""

from dataclasses import dataclass, field

from scalple.ingest.errors import VerificationError


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that isn't as it must be.

    Attributes:
        place: the file, and the rows where they can be told.
        what: what is wrong.
        expected: what should be there, where that can be told.
        found: what is there.
        hint: the next step, where there is one.
    """

    place: str
    what: str
    expected: str | None = None
    found: str | None = None
    hint: str | None = None

    @classmethod
    def of(cls, error: VerificationError, place: str) -> "Fault":
        """The fault that an error tells of; `place` is for errors that name none."""
        return cls(error.place or place, error.fault, error.expected, error.found, error.hint)

    def to_error(self) -> VerificationError:
        """The inverse of `of`."""
        return VerificationError(
            self.what,
            place=self.place,
            hint=self.hint,
            expected=self.expected,
            found=self.found,
        )


@dataclass(frozen=True, slots=True)
class Head:
    """A signed head that was checked.

    Attributes:
        origin: the log.
        size: of how many manifests.
        root: over them, in hexadecimal.
        key: who signed it, as a verifier key.
        since: from which manifest on files were read.
    """

    origin: str
    size: int
    root: str
    key: str
    since: int


@dataclass(slots=True)
class VerifyReport:
    """What was found; counts are of what was read and found intact."""

    level: str = "rows"
    """`rows`: everything; `files`: bytes of files only."""
    origins: list[str] = field(default_factory=list)
    manifests: int = 0
    segments: int = 0
    rows: int = 0
    bytes: int = 0
    """Of all segments."""
    expired_rows: int = 0
    """Rows that the log says have expired: they aren't there, and can't be checked."""
    heads: list[Head] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the reader of the report must know to judge it."""
    faults: list[Fault] = field(default_factory=list)
    """In order of place within an origin; none means intact."""

    def raise_first(self) -> None:
        """Returns when nothing is wrong.

        Raises:
            VerificationError: something is.
        """
        if self.faults:
            raise self.faults[0].to_error()
