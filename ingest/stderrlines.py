"""A block of bytes as lines: where each begins and ends, and what it begins with.

Enters: bytes that end with a line end. Leaves: arrays, one element per line. Only the line feed ends
a line: any other separator is text that a client chose. Reads no line.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]

_TAB, _LF, _CR, _BLANK = 9, 10, 13, 32


class Lines:
    """The lines of a block.

    Args:
        data: the block.
        end: behind its last line end.
        is_crlf: a carriage return before the line end belongs to it.
    """

    def __init__(self, data: bytes, end: int, is_crlf: bool) -> None:
        self.data, self.end, self.is_crlf = data, end, is_crlf
        self.view = np.frombuffer(data, np.uint8, end)
        breaks = np.flatnonzero(self.view == _LF)
        self.starts = np.concatenate([np.zeros(1, np.int64), breaks[:-1] + 1])
        self.ends = breaks
        if is_crlf:
            self.ends = breaks - ((self.view[breaks - 1] == _CR) & (breaks > self.starts))
        offsets = np.append(self.starts, end).astype(np.int32)
        self.array = pa.Array.from_buffers(
            pa.binary(), len(breaks), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        )
        """Each with its line end."""
        first = self.view[self.starts]
        self.is_tabbed = first == _TAB
        self.is_empty = self.ends == self.starts
        self.is_indented = first == _BLANK
        self.may_begin = ~self.is_tabbed & ~self.is_empty

    def __len__(self) -> int:
        return len(self.starts)

    def lengths(self, at: Ints) -> Ints:
        """In bytes, of the lines at these places."""
        return np.asarray(self.ends[at] - self.starts[at])

    def bytes_of(self, line: int) -> bytes:
        """One line without its end."""
        return self.data[self.starts[line] : self.ends[line]]

    def text(self, line: int) -> str:
        """One line as text, for a look at it."""
        return self.bytes_of(line).decode("utf-8", "replace")
