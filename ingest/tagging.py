"""The tags of one connection: the one in force, those before it, and what the server reports of them.

Enters: the first tag, and application_names as the server says them. Leaves: new names to set, and
whether a reported one is ours. No I/O.
"""

from collections import deque
from collections.abc import Callable

from scalple.ingest.tags import TAG_LENGTH
from scalple.ingest.whose import STATUS_IDLE

_KEPT = 64


class Tagging:
    """A connection's tags.

    Args:
        tag: as its `open` event announced it.
        name: the application_name that was forwarded.
        new_name: makes (tag, application_name), given what the pooler puts behind names.
    """

    def __init__(self, tag: str, name: str, new_name: Callable[[str], tuple[str, str]]) -> None:
        self.tag = tag
        """The tag in force, or about to be."""
        self.name = name
        self._new_name = new_name
        self._ours: deque[bytes] = deque([tag.encode()], _KEPT)
        self._in_block: set[str] = set()
        """Tags that a rollback might give back."""
        self._reported = b""
        self._suffix = ""

    @property
    def held(self) -> bool:
        """Whether the server bears the tag in force, as far as it has said."""
        return self._reported.startswith(self.tag.encode())

    def anew(self) -> None:
        """Make a tag that has never been used."""
        self.tag, self.name = self._new_name(self._suffix)
        self._ours.append(self.tag.encode())

    def report(self, name: bytes) -> bool:
        """The server says that this is the name now; whether that is a change."""
        changed = name != self._reported
        self._reported = name
        return changed

    def is_ours(self, name: bytes) -> bool:
        """Whether it is a name that we have given; a rollback may bring an earlier one back."""
        return name[:TAG_LENGTH] in self._ours

    def logged_in(self) -> None:
        """What the server has reported by now is what the pooler made of the forwarded name."""
        sent = self.name.encode()
        if self._reported.startswith(sent):
            self._suffix = self._reported[len(sent) :].decode("utf-8", "replace")

    def answered(self, status: int) -> None:
        """The server is in that status, under the tag in force."""
        if status == STATUS_IDLE:
            self._in_block.clear()
        self._in_block.add(self.tag)

    def may_return(self) -> list[str]:
        """The tag in force, and those that a rollback may give back."""
        return sorted({self.tag, *self._in_block})
