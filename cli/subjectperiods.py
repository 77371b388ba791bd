"""Subject keys by period: each month, quarter or year has its own, and goes with its last rows.

Configuration, the clock and an open store enter; the file of the present key leaves, made when a
period begins, and those of periods of which nothing is left are destroyed. Whose token is whose can
then be told by nobody, also from a copy of the rows. Which keys a question needs is `subjectkeys`'.
"""

import datetime as dt
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from scalple.cli import subjectkeys
from scalple.cli.places import Places
from scalple.ingest.errors import ConfigError
from scalple.store import durable, keys
from scalple.store.keyedrows import SUBJECT_KEY
from scalple.store.layout import keys_directory
from scalple.store.reader import StoreReader
from scalple.store.source import source_of

OWNER = "store"
"""The file that says whose keys these are."""
NEEDING = ("audit", "revisions", "denied")
"""Kinds whose rows may hold what is made with a subject key."""
_FILE = re.compile(r"subject-[0-9]{4}(-Q[1-4]|-[0-9]{2})?\.key")


def name_of(period: str, now: dt.datetime) -> str:
    """The period that a moment is in, in UTC: `2026-03`, `2026-Q1`, `2026`."""
    day = now.astimezone(dt.UTC)
    if period == "month":
        return f"{day.year:04d}-{day.month:02d}"
    return f"{day.year:04d}-Q{(day.month + 2) // 3}" if period == "quarter" else f"{day.year:04d}"


def present(
    reader: StoreReader | None, store_dir: Path, where: Places, now: dt.datetime
) -> Path | None:
    """The file of the key of now, made if it isn't there yet; None where keys have no periods.

    Raises:
        ConfigError: the directory is another store's, or the key that the log goes on with is missing.
        StoreError: it can't be made.
    """
    if where.subject_key_period is None:
        return None
    directory = directory_of(store_dir, where)
    path = directory / f"subject-{name_of(where.subject_key_period, now)}.key"
    _check_owner(directory, store_dir, where)
    if not path.exists():
        if reader is not None:
            subjectkeys.check_may_begin(reader, store_dir, where)
        durable.make_directory(directory)
        directory.chmod(0o700)
        with suppress(FileExistsError):  # another origin's run was faster
            keys.create_subject_key(path)
    if where.subject_key_directory and not (directory / OWNER).exists():
        with suppress(FileExistsError):
            durable.create(directory / OWNER, f"{store_dir.absolute()}\n".encode(), mode=0o600)
    return path


def directory_of(store_dir: Path, where: Places) -> Path:
    """Where the keys of periods are.

    Raises:
        ConfigError: nothing lies beside a store in a bucket, and no directory is named.
    """
    if where.subject_key_directory:
        return Path(where.subject_key_directory)
    if source_of(store_dir):
        raise ConfigError(
            "nothing lies beside a store in a bucket", hint="name [keys] subject_key_directory"
        )
    return keys_directory(store_dir)


def check_place(store_dir: Path, where: Places) -> None:
    """Returns when keys of periods could be destroyed, if there are any; raises as `forget`. Before rows
    expire: what happened to them wouldn't be told afterwards."""
    if where.subject_key_period is not None:
        directory = directory_of(store_dir, where)
        _check_owner(directory, store_dir, where)
        _files(directory)


def forget(
    reader: StoreReader, store_dir: Path, where: Places, trial: bool
) -> list[dict[str, Any]]:
    """Destroys the keys of periods that ended a day ago or more and of which no row is left; in a trial
    says which.

    Raises:
        ConfigError: the directory is another store's, or can't be read.
        StoreError: one can't be destroyed.
    """
    if where.subject_key_period is None:
        return []
    directory = directory_of(store_dir, where)
    _check_owner(directory, store_dir, where)
    now = dt.datetime.now(dt.UTC)
    # A run that began yesterday may still write with the key of then.
    days = (now, now - dt.timedelta(days=1))
    current = {f"subject-{name_of(where.subject_key_period, one)}.key" for one in days}
    own = {  # however they are written
        Path(one).resolve()
        for one in (where.subject_key_file, *where.former_subject_key_files)
        if one
    }
    named, needed = _told(reader)
    found = []
    for path in _files(directory):
        if path.name in current or path.resolve() in own:
            continue
        key_id = keys.subject_key_id(keys.subject_key(store_dir, path).secret)
        if key_id in named and key_id not in needed:
            found.append({"key": key_id, "file": str(path)})
            if not trial:
                durable.shred(path)
    return found


def _files(directory: Path) -> list[Path]:
    """Those that are called as keys of periods are. One that can't be seen would outlive its period
    unnoticed."""
    try:
        return sorted(path for path in directory.iterdir() if _FILE.fullmatch(path.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(
            f"subject keys can't be looked for: {error.strerror}",
            place=str(directory),
            hint="run retention as the account that the keys are of",
        ) from error


def _told(reader: StoreReader) -> tuple[set[str], set[str]]:
    """The keys that the logs name, and those that made something of what is left."""
    named: set[str] = set()
    ids: dict[str, str] = {}
    needed: set[str] = set()
    for origin in reader.origins:
        manifests, key = reader.chain(origin).manifests, None
        for n, manifest in enumerate(manifests):
            sha256 = manifest.objects.get(SUBJECT_KEY)
            if sha256 is not None:
                if sha256 not in ids:
                    ids[sha256] = reader.objects(sha256).decode()
                key = ids[sha256]
                named.add(key)
            if key and any(one.kind in NEEDING for one in manifests.left(n).segments):
                needed.add(key)
    return named, needed


def _check_owner(directory: Path, store_dir: Path, where: Places) -> None:
    """Keys go when nothing of one store needs them: no other one may use them."""
    owner = directory / OWNER
    if not where.subject_key_directory:
        return
    try:
        said = owner.read_text().strip()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(
            f"whose keys these are can't be read: {error.strerror}",
            place=str(owner),
            hint="name another [keys] subject_key_directory, or run as the account that it is of",
        ) from error
    if said != str(store_dir.absolute()):
        raise ConfigError(
            f"holds the keys of the store {said}, and they go when that one needs them no more",
            place=str(directory),
            hint=f"one directory for each store; if this store was moved, say so in {owner}",
        )
