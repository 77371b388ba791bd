"""Which subject keys a store's tokens were made with, and which of them are at hand.

Configuration and an open store enter. Leaves: the keys that a question needs, the newest first, or an
error that says which one is missing and what can't be searched without it. A store names keys by ids
that tell nothing of them (`keys.subject_key_id`); a commit's tokens are of the key that it names.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalple.cli.places import Places
from scalple.ingest.errors import ConfigError
from scalple.store import keys
from scalple.store.layout import keys_directory
from scalple.store.reader import StoreReader


@dataclass(frozen=True, slots=True)
class Told:
    """A key that an origin names.

    Attributes:
        origin: the log.
        id: of the key.
        rows: statements whose subjects have tokens of it.
        first: when the first of the commits was made.
        last: when the last one was.
    """

    origin: str
    id: str
    rows: int
    first: str
    last: str

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "origin": self.origin,
            "key": self.id,
            "statements": self.rows,
            "committed_first": self.first,
            "committed_last": self.last,
        }


@dataclass(frozen=True, slots=True)
class AtHand:
    """What a question has.

    Attributes:
        keys: the newest first; none if a question can do without.
        unsearched: what the question leaves out, because its key is lost.
    """

    keys: tuple[bytes, ...]
    unsearched: tuple[Told, ...] = ()


def told(reader: StoreReader) -> list[Told]:
    """Every key that the store names, by origin, the newest first."""
    found: dict[tuple[str, str], Told] = {}
    for origin in reader.origins:
        for one in reader.chain(origin).manifests.keyed():
            if one.sha256 is None:
                continue
            name = reader.objects(one.sha256).decode()
            found[origin, name] = Told(origin, name, one.rows, one.first, one.last)
    return list(reversed(found.values()))


def _has_untold(reader: StoreReader) -> bool:
    """Commits of earlier versions don't name their key."""
    return any(
        one.sha256 is None
        for origin in reader.origins
        for one in reader.chain(origin).manifests.keyed()
    )


def _is_nothing_left(reader: StoreReader) -> bool:
    """Of all that was made with a key; keys of periods go then as well, and the answer is what expired."""
    named = told(reader)
    return bool(named) and not any(one.rows for one in named) and not _has_untold(reader)


def for_question(
    reader: StoreReader, directory: Path, where: Places, *, looks_up: bool, lost: Iterable[str]
) -> AtHand:
    """The keys for a question.

    Args:
        reader: the store that is asked.
        directory: where it is.
        where: names key files.
        looks_up: the question names a subject, so that every key is needed.
        lost: ids of keys that there are no more: what was made with them is left out.

    Raises:
        ConfigError: a key that is needed isn't here; none of those here is this store's; or one that
            is said to be lost is here, or was never there.
    """
    hand = dict(_at_hand(directory, where))
    named = told(reader)
    missing = [one for one in named if one.rows and one.id not in hand]
    unknown = set(lost) - {one.id for one in missing}
    if unknown:
        raise ConfigError(
            f"key {min(unknown)} isn't missing here",
            place="--lost-key",
            hint="leave it out: nothing is unsearched without it",
        )
    if not hand:
        if looks_up and not _is_nothing_left(reader):
            raise _no_key(directory, where)
        return AtHand(())
    known = tuple(dict.fromkeys(hand[one.id] for one in named if one.id in hand))
    if known and _has_untold(reader):  # any of the keys may have made those
        known = tuple(dict.fromkeys((*known, *hand.values())))
    if named and not known:
        raise ConfigError(
            f"the subject key isn't the one that {named[0].origin} was made with: nobody would be "
            "found",
            hint="put the right key back, or name it in [keys] subject_key_file",
        )
    if looks_up:
        for one in missing:
            if one.id not in lost:
                raise _incomplete(one)
        return AtHand(known or tuple(hand.values()), tuple(missing))
    return AtHand(known or tuple(hand.values()))


def pseudonym_key(reader: StoreReader, directory: Path, where: Places) -> AtHand:
    """As `for_question`, for one that names no subject and hides names: any key will do.

    Raises:
        ConfigError: none is here, or none of the store's.
    """
    found = for_question(reader, directory, where, looks_up=False, lost=())
    if not found.keys and not _is_nothing_left(reader):
        raise _no_key(directory, where)
    return found


def check_goes_on(reader: StoreReader, secret: bytes, *, by_period: bool = False) -> None:
    """Returns when new rows may be made with the key: the logs name no other one last.

    `by_period`: or never named it, because its period begins; the commits say so.

    Raises:
        ConfigError: they do. Tokens of two keys are never mixed unless the log says so.
    """
    ours = keys.subject_key_id(secret)
    for origin in reader.origins:
        ids = [one.id for one in told(reader) if one.origin == origin]
        if by_period and ours not in ids:
            continue
        if ids and ids[0] != ours:
            former = ", but one that it had before" if ours in ids else ""
            raise ConfigError(
                f"the subject key {ours[:8]} isn't the one that {origin} goes on with "
                f"({ids[0][:8]}){former}",
                hint="put the right key back, or name it in [keys] subject_key_file; to go on with "
                "a new one: rotate-key subject",
            )


def check_may_begin(reader: StoreReader, directory: Path, where: Places) -> None:
    """Returns when a period's key may be made: what was made with the one before can be looked up, or
    is gone.

    Raises:
        ConfigError: that key isn't here: perhaps the place is another one.
    """
    hand = dict(_at_hand(directory, where))
    for origin in reader.origins:
        named = [one for one in told(reader) if one.origin == origin]
        if named and named[0].rows and named[0].id not in hand:
            raise _incomplete(named[0])


def _at_hand(directory: Path, where: Places) -> Iterator[tuple[str, bytes]]:
    """Id -> key, of every file that may be read; the present key first."""
    files = [_present(directory, where), *map(Path, where.former_subject_key_files)]
    if where.subject_key_period:
        before = where.subject_key_file
        files.append(Path(before) if before else keys_directory(directory) / "subject.key")
    files += sorted(keys_directory(directory).glob("subject-*.key"))
    if where.subject_key_directory:
        files += sorted(Path(where.subject_key_directory).glob("subject-*.key"))
    for path in files:
        if os.access(path, os.R_OK):
            secret = keys.subject_key(directory, path).secret
            yield keys.subject_key_id(secret), secret
        elif str(path) in where.former_subject_key_files:
            raise ConfigError(
                "the key file isn't there, or you may not read it",
                place=str(path),
                hint="mend [keys] former_subject_key_files; --lost-key ID if it is lost",
            )


def _present(directory: Path, where: Places) -> Path:
    configured = where.subject_key_file
    if where.subject_key_period:
        beside = where.subject_key_directory or keys_directory(directory)
        return max(Path(beside).glob("subject-*.key"), default=Path(beside) / "subject-….key")
    return Path(configured) if configured else keys_directory(directory) / "subject.key"


def _no_key(directory: Path, where: Places) -> ConfigError:
    return ConfigError(
        "the subject key isn't there, or you may not read it; without it nobody can be looked "
        "up, and pseudonyms can't be made",
        place=str(_present(directory, where)),
        hint="give --config FILE with [keys] subject_key_file = …, or ask with "
        "--disclosure controller where no subject is asked for",
    )


def _incomplete(one: Told) -> ConfigError:
    return ConfigError(
        f"subject key {one.id} isn't here: whom {one.rows:,} statements of {one.origin}, committed "
        f"from {one.first[:19]} to {one.last[:19]}, name can't be looked up",
        hint="name its file in [keys] former_subject_key_files; if it is lost, --lost-key ID "
        "answers without them, and says so",
    )
