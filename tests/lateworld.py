"""The recorded sample, written piece by piece and followed in this process, with events that come late.

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
from tests.commandline import SAMPLE

FILES = ("postgresql.csv", "pgbouncer.log", "identity.jsonl")
_TIME = re.compile(r'^(?:\{.*?"ts":")?(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d\.\d{3})')
Line = tuple[str, bytes]
"""When it was written, as far as it says, and its bytes."""


def lines_of(name: str) -> list[Line]:
    """The lines of a recorded file."""
    found: list[Line] = []
    latest = ""
    for line in (SAMPLE / name).read_bytes().splitlines(keepends=True):
        if said := _TIME.match(line.decode(errors="replace")):
            latest = max(latest, f"{said[1]} {said[2]}")
        found.append((latest, line))
    return found


@dataclass
class LateWorld:
    """Logs in a directory that grow."""

    directory: Path
    rest: dict[str, list[Line]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """What a file is called now."""

    def __post_init__(self) -> None:
        self.logs = self.directory / "logs"
        self.logs.mkdir()
        for name in FILES:
            self.rest[name] = lines_of(name)
            self.names[name] = name
            (self.logs / name).touch()
        text = (SAMPLE / "config.toml").read_text()
        text = re.sub("(?m)^store .*$", f'store = "{self.directory / "store"}"', text)
        for name in FILES:
            text = text.replace(f'["{name}"]', f'["{self.logs / name}*"]')
        text = text.replace('["schema.sql"]', f'["{SAMPLE / "schema.sql"}"]')
        self.config = self.directory / "config.toml"
        self.config.write_text(f"{text}\n[daemon]\nrevise_interval_s = 0.2\n")

    def moments(self, count: int) -> list[str]:
        """So many moments, the last one after everything."""
        times = [moment for moment, _ in lines_of("postgresql.csv")]
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
        rest, self.rest["identity.jsonl"] = self.rest["identity.jsonl"], []
        found: list[tuple[int, str, list[Line]]] = []
        while rest:
            count = chance.randint(1, 40)
            part, rest = rest[:count], rest[count:]
            own = next(n for n, moment in enumerate(moments) if part[-1][0] <= moment)
            turn = min(len(moments) - 1, own + chance.choice([0, 0, 1, 2, len(moments)]))
            found.append((turn, f"identity.jsonl.{chance.randrange(files)}", part))
        return found

    @contextmanager
    def following(self) -> Iterator[Following]:
        """A follower that goes on where the store stands."""
        with open_following(load(self.config)) as found:
            yield found
