"""A file of which it isn't known yet which generation it holds, and what speaks for which.

Enters: files and generations. Leaves: judgements about them. Changes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scalple.ingest.generations import Generation, Inode
from scalple.ingest.heldfile import WEAK_BYTES, HeldFile
from scalple.ingest.lognames import family
from scalple.ingest.present import Found


@dataclass(slots=True)
class Candidate:
    """A file of which it isn't known yet which generation it holds."""

    found: Found
    file: HeldFile
    like: list[Generation]
    """Those with whose head it begins."""


def is_complete(generation: Generation) -> bool:
    """What begins like it and is compressed holds nothing new: that spares unpacking all of it."""
    return generation.is_finished and not generation.is_damaged


def is_packed_copy(candidate: Candidate, generation: Generation) -> bool:
    """Whether the file is a finished generation, compressed, as far as its head tells.

    Zero bytes at the beginning, from a power cut, may be any file's.
    """
    if not candidate.file.is_compressed or not is_complete(generation) or generation.head is None:
        return False
    return b"\0" not in candidate.file.begins[: generation.head[0]]


def continues(candidate: Candidate, generation: Generation) -> bool:
    """Whether the file goes on where the generation's reading ended.

    Raises:
        OSError, InputError: it can't be read now.
    """
    anchors, file = generation.anchors, candidate.file
    if anchors is None:  # seen, but never read
        seen = generation.file.seen if generation.file is not None else b""
        if not seen.strip(b"\0") and candidate.found.inode != generation.inode:
            return False  # zero bytes may be any file's
        return bool(seen) and file.begins.startswith(seen)
    if anchors.end < WEAK_BYTES and file.measure() != anchors.end:
        return False  # a few bytes may be any file's
    return is_packed_copy(candidate, generation) or file.holds(anchors)


def may_be_copy_of_another(one: Candidate, candidates: list[Candidate]) -> bool:
    """A few bytes with which another file found now begins: the next scan will see."""
    begins = one.file.seen
    return len(begins) < WEAK_BYTES and any(
        other.file.seen.startswith(begins) and len(other.file.seen) > len(begins)
        for other in candidates
    )


def preference(pair: tuple[Generation, Candidate]) -> tuple[int, bool, bool, int, str]:
    """Which file goes on for which generation, where several could: sorts the likeliest first."""
    generation, candidate = pair
    file = candidate.file
    return (
        -generation.end,
        generation.path not in candidate.found.paths,
        file.is_compressed,
        -file.size,
        str(file.path),
    )


def was_cut_meanwhile(
    generation: Generation, candidate: Candidate, present: dict[Inode, Found]
) -> bool:
    """Whether the inode that held it when nobody followed holds something else now."""
    if generation.inode is None or generation.inode[0] or generation.is_finished:
        return False
    number = generation.inode[1]
    return candidate.found.inode[1] != number and any(
        one.inode[1] == number and generation.path in one.paths for one in present.values()
    )


def may_be_hidden(generation: Generation, problems: Iterable[Path]) -> bool:
    """Whether files that can't be read, or folders that can't be listed, may hold it: then it isn't missing."""
    folder = generation.path.parent
    return any(
        path in (folder, *folder.parents) or family(path) == generation.family for path in problems
    )
