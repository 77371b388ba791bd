"""The root of all errors of this project, grouped by who can mend them.

Every error says what is wrong, where, and what to do next. Parsers never leak ValueError.
"""

import errno
from typing import Self


class ScalpleError(Exception):
    """What is wrong, at which place, and a hint that names the next step.

    Attributes:
        exit_code: the documented exit code of the command line for this kind of error.
    """

    exit_code = 1

    def __init__(self, what: str, *, place: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.place = place
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.place}: {self.what}" if self.place else self.what
        return f"{text}\n  hint: {self.hint}" if self.hint else text


def reason(error: ScalpleError | OSError) -> str:
    """What is wrong, where the place is said already."""
    if isinstance(error, ScalpleError):
        return error.what
    if error.errno in (errno.EACCES, errno.EPERM):
        return "permission denied: let this account, or its group, read it"
    return error.strerror or str(error)


class InputError(ScalpleError):
    """The operator's data can't be read: missing, unreadable, not of the expected kind."""

    exit_code = 3


class ConfigError(ScalpleError):
    """The operator's choice can't be followed: unknown key, bad value, missing key file."""

    exit_code = 4


class StoreError(ScalpleError):
    """The store can't be opened or written as asked; what it holds is unharmed."""

    exit_code = 5


class RaceError(StoreError):
    """Another writer was faster; its commit stands, and this one's batch isn't in the store."""


class CommitError(StoreError):
    """The state of a commit is unknown: stop, and recover by opening the store again."""

    exit_code = 6


class VerificationError(ScalpleError):
    """The store isn't what its manifests say. Names the place, what was expected and found.

    Attributes:
        fault: what is wrong, without the two values.
        expected: what should be there, where that can be told.
        found: what is there.
    """

    exit_code = 7

    def __init__(
        self,
        what: str,
        *,
        place: str | None = None,
        hint: str | None = None,
        expected: object = None,
        found: object = None,
    ) -> None:
        self.fault = what
        self.expected = None if expected is None else str(expected)
        self.found = None if found is None else str(found)
        parts = [("expected", self.expected), ("found", self.found)]
        told = ", ".join(f"{name} {value}" for name, value in parts if value is not None)
        super().__init__(f"{what}: {told}" if told else what, place=place, hint=hint)

    def at(self, place: str) -> Self:
        """The same error, with its place if it doesn't know one."""
        return type(self)(
            self.fault,
            place=self.place or place,
            hint=self.hint,
            expected=self.expected,
            found=self.found,
        )


class ReaderGoneError(Exception):
    """Whoever read stdout has gone: no fault, and nothing to do."""
