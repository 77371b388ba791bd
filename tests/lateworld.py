"""Recorded or simulated logs, written piece by piece and followed in this process, with events that come late.

Enters: which lines come when. Leaves: a store. The follower is made anew as often as a test likes.
"""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from scalple.cli.config import load
from scalple.cli.following import Following
from scalple.cli.followplan import open_following
from scalple.correlate.rules import Rules
from tests.commandline import SAMPLE, scalple

FILES = ("postgresql.csv", "pgbouncer.log", "identity.jsonl")
"""The server's log, the pooler's, and the events."""
SERVER, POOLER, EVENTS = FILES
_TIME = re.compile(r'^(?:\{.*?"ts":")?(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d\.\d{3})')
Line = tuple[str, bytes]
"""When it was written, as far as it says, and its bytes."""


def lines_of(path: Path) -> list[Line]:
    """The lines of a file."""
    found: list[Line] = []
    latest = ""
    for line in path.read_bytes().splitlines(keepends=True):
        if said := _TIME.match(line.decode(errors="replace")):
            latest = max(latest, f"{said[1]} {said[2]}")
        found.append((latest, line))
    return found


def sampled(directory: Path) -> "LateWorld":
    """The recorded sample."""
    text = (SAMPLE / "config.toml").read_text()
    begin = text.index("[sources]")
    rest = text[text.index("\n[", begin + 5) :]
    head = re.sub("(?m)^store .*$", "", text[:begin])
    schema = f'schema = ["{SAMPLE / "schema.sql"}"]'
    return LateWorld(directory, tuple(SAMPLE / name for name in FILES), head, schema, rest)


def simulated(directory: Path, files: tuple[Path, ...], rules: Rules) -> "LateWorld":
    """A simulated world's logs, with what an operator would declare of it."""
    rest = f'[pooler]\nmode = "{rules.pooler.mode}"\n[clocks]\nskew_ms = {rules.clocks.skew_ms}\n'
    return LateWorld(directory, files, "", "", rest)


@dataclass
class LateWorld:
    """Logs in a directory that grow.

    Args:
        directory: for these, the store and its configuration.
        files: what they hold in the end.
        head, sources, rest: of the configuration.
    """

    directory: Path
    files: tuple[Path, ...]
    head: str
    sources: str
    rest_of: str
    rest: dict[str, list[Line]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.logs = self.directory / "logs"
        self.logs.mkdir()
        self.store = self.directory / "store"
        for name, path in zip(FILES, self.files, strict=True):
            self.rest[name] = lines_of(path)
            (self.logs / name).touch()
        self.config = self._configured("config", f"{self.logs}/", "*")

    def _configured(self, name: str, before: str, after: str) -> Path:
        files = zip(("postgres", "pgbouncer", "identity"), FILES, strict=True)
        sources = "".join(f'{kind} = ["{before}{file}{after}"]\n' for kind, file in files)
        path = self.directory / f"{name}.toml"
        path.write_text(
            f'store = "{self.directory / ("store" if after else name)}"\n{self.head}\n'
            f"[sources]\n{sources}{self.sources}\n{self.rest_of}\n"
            "[daemon]\nrevise_interval_s = 0.2\n"
        )
        return path

    def at_once(self) -> Path:
        """A store of everything, read in one go by `reprocess`."""
        whole = self.directory / "whole-logs"
        whole.mkdir()
        for name, path in zip(FILES, self.files, strict=True):
            (whole / name).write_bytes(path.read_bytes())
        said = scalple("reprocess", "--config", self._configured("whole", f"{whole}/", ""))
        assert said.code == 0, said.err
        return self.directory / "whole"

    def moments(self, count: int) -> list[str]:
        """So many moments, the last one after everything."""
        times = [moment for moment, _ in lines_of(self.files[0])]
        return [*(times[len(times) * n // count] for n in range(1, count)), "9999"]

    def write(self, name: str, until: str) -> None:
        """Append what a file's writer had written by then."""
        rest = self.rest[name]
        due = next((n for n, (moment, _) in enumerate(rest) if moment > until), len(rest))
        with (self.logs / name).open("ab") as file:
            file.write(b"".join(line for _, line in rest[:due]))
        del rest[:due]

    def ship(self, into: str, lines: list[Line]) -> None:
        """Append lines to a file of their own."""
        with (self.logs / into).open("ab") as file:
            file.write(b"".join(line for _, line in lines))

    def split(
        self, chance: random.Random, files: int, moments: list[str]
    ) -> list[tuple[int, str, list[Line]]]:
        """The identity events cut into runs of lines, each with the turn in which it comes, at or after
        its own, and the file that it comes in."""
        rest, self.rest[EVENTS] = self.rest[EVENTS], []
        found: list[tuple[int, str, list[Line]]] = []
        while rest:
            count = chance.randint(1, 40)
            part, rest = rest[:count], rest[count:]
            own = next(n for n, moment in enumerate(moments) if part[-1][0] <= moment)
            turn = min(len(moments) - 1, own + chance.choice([0, 0, 1, 2, len(moments)]))
            found.append((turn, f"{EVENTS}.{chance.randrange(files)}", part))
        return found

    @contextmanager
    def following(self) -> Iterator[Following]:
        """A follower that goes on where the store stands."""
        with open_following(load(self.config)) as found:
            yield found
