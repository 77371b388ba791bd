"""Whether an account may read a file, and what stands in its way.

Enters: a path, and an account or this process. Leaves: the first folder or file that refuses. For another
account only owner, group and mode are looked at: access lists and capabilities aren't.
"""

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scalple.ingest.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Account:
    """Who is to read.

    Attributes:
        name: its name.
        uid, gids: as numbers.
        is_me: this process: the kernel is asked.
    """

    name: str
    uid: int
    gids: frozenset[int]
    is_me: bool

    @classmethod
    def mine(cls) -> "Account":
        """Whoever runs this."""
        uid = os.geteuid()
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = str(uid)
        return cls(name, uid, frozenset({os.getegid(), *os.getgroups()}), True)

    @classmethod
    def named(cls, name: str) -> "Account":
        """An account of this host.

        Raises:
            ConfigError: there is none of that name.
        """
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            raise ConfigError(
                f"there is no account {name!r} on this host", place="--account"
            ) from None
        return cls(name, found.pw_uid, frozenset(os.getgrouplist(name, found.pw_gid)), False)

    def may_read(self, path: Path) -> bool:
        """A file is read, a folder listed and entered."""
        return self._may(path, os.R_OK | (os.X_OK if path.is_dir() else 0))

    def _may(self, path: Path, wanted: int) -> bool:
        if self.is_me:
            return os.access(path, wanted)
        if self.uid == 0:
            return True
        state = path.stat()
        shift = 6 if state.st_uid == self.uid else 3 if state.st_gid in self.gids else 0
        return (state.st_mode >> shift) & wanted == wanted

    def may_enter(self, folder: Path) -> bool:
        """Names in it can be opened."""
        return self._may(folder, os.X_OK)

    def owns(self, path: Path) -> bool:
        """It is its own file, or it reads whatever there is."""
        return self.uid in (0, path.stat().st_uid)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What can't be passed.

    Attributes:
        path: the file or folder.
        owner, group: of it.
        mode: as `ls` shows it in octal.
        is_folder: it is a folder.
    """

    path: Path
    owner: str
    group: str
    mode: str
    is_folder: bool


def refusal(path: Path, account: Account) -> Refusal | None:
    """What keeps an account from reading a file or listing a folder; None if nothing does.

    Raises:
        FileNotFoundError: there is no such file, as far as this process can see.
    """
    whole = path.absolute()
    try:
        for folder in reversed(whole.parents):
            if not account.may_enter(folder):
                return _refused(folder)
        whole.stat()
        return None if account.may_read(whole) else _refused(whole)
    except PermissionError as error:
        # This process can't see as far as the question goes.
        return _refused(_seen(Path(error.filename or whole)))


def _seen(path: Path) -> Path:
    for one in (path, *path.parents):
        try:
            one.stat()
        except PermissionError:
            continue
        return one
    return path


def _refused(path: Path) -> Refusal:
    state = path.stat()
    return Refusal(
        path,
        _name_of(state.st_uid, pwd_=True),
        _name_of(state.st_gid, pwd_=False),
        f"{stat.S_IMODE(state.st_mode):04o}",
        path.is_dir(),
    )


def _name_of(number: int, *, pwd_: bool) -> str:
    try:
        return pwd.getpwuid(number).pw_name if pwd_ else grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def group_of(path: Path) -> str:
    """The name of a file's group."""
    return _name_of(path.stat().st_gid, pwd_=False)


def owner_of(path: Path) -> str:
    """The name of a file's owner."""
    return _name_of(path.stat().st_uid, pwd_=True)


def unreadable(paths: Iterator[Path], account: Account) -> list[tuple[Path, Refusal]]:
    """Of some files those that can't be read, and why; what has gone meanwhile is left out."""
    found = []
    for path in paths:
        try:
            why = refusal(path, account)
        except FileNotFoundError:
            continue
        if why is not None:
            found.append((path, why))
    return found
