"""Whatever clients, poolers, clocks and files do: nobody is named wrongly at the two top grades.

A simulated stack writes the logs and knows the truth. Honest clients: no wrong name at `proven` or
`confirmed`. Clients that take others' names on purpose: none at `proven`. `make prove` plays millions of
statements and prints what became of them.
"""

import os
import random
import shutil
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from scalple.correlate.attribution import GRADES
from scalple.correlate.correlator import Correlator
from scalple.correlate.rules import Clocks, Pooler, Rules
from tests.attribute_logs import Attributed, attribute_files
from tests.commandline import scalple
from tests.examples import SEEDS, examples
from tests.live import Watched, attribute_live
from tests.remembered import remembered
from tests.simulation import (
    DAMAGES,
    DATABASE,
    HAPPENINGS,
    ROLE,
    SERVER_PORT,
    Backend,
    Setting,
    World,
)

CASTS = {
    "tagged": ("sidecar", "web", "asyncpg"),
    "relay": ("relay",),
    "open": ("sidecar", "relay", "silent", "nameless", "overlong"),
    "comments": ("comment", "silent", "relay"),
    "thieves": ("sidecar", "web", "thief"),
    "burglars": ("sidecar", "relay", "burglar", "silent"),
}
MALICIOUS = ("thieves", "burglars")
MODES = ("transaction", "session", "statement")
VERSIONS = ("1.12", "1.18", "1.21", "1.25")
FAULTS = (*HAPPENINGS, *DAMAGES)
CLOCKS = (0, 0, 0, 0, 0, -900_000, 40_000, 2_500_000)
"""By how much one is ahead, in µs; how far they are apart at most is declared."""
STATEMENTS = int(os.environ.get("SIMULATED_STATEMENTS", "0"))
"""So many in all; 0 plays the short version only."""

WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
SETTINGS = st.builds(
    Setting,
    mode=st.sampled_from(MODES),
    version=st.sampled_from(VERSIONS),
    add_host=st.booleans(),
    verbose=st.booleans(),
    cast=st.sampled_from(sorted(CASTS)).map(CASTS.__getitem__),
    clients=st.integers(2, 10),
    backends=st.integers(1, 4),
    statements=st.just(120),
    faults=st.lists(st.sampled_from(FAULTS), max_size=3, unique=True).map(tuple),
    logs_settings=st.sampled_from([True, True, True, False]),
    pooler_ahead_us=st.sampled_from(CLOCKS),
    sidecar_ahead_us=st.sampled_from(CLOCKS),
)


def attributed(world: World, directory: Path, block_bytes: int | None = None) -> Attributed:
    """What comes out of the world's logs."""
    return of(*world.write(directory), world.setting, block_bytes)


def of(
    server: Path, pooler: Path, events: Path, setting: Setting, block_bytes: int | None = None
) -> Attributed:
    rules = declared(setting)
    return attribute_files([server], [pooler], [events], rules, block_bytes=block_bytes)


def declared(setting: Setting) -> Rules:
    """What an operator would declare of that world."""
    ahead = (0, setting.pooler_ahead_us, setting.sidecar_ahead_us)
    skew_ms = -(-(max(ahead) - min(ahead)) // 1000)
    return Rules(pooler=Pooler(mode=setting.mode), clocks=Clocks(skew_ms))


def wrongs(done: Attributed, cast: tuple[str, ...]) -> list[dict[str, object]]:
    """Rows whose name mustn't be wrong, and is."""
    malicious = cast in [CASTS[one] for one in MALICIOUS]
    return [
        row
        for row in done.dicts()
        if row["truth"]
        and row["session_user_id"] not in (None, row["truth"])
        and row["attribution_grade"]
        not in (("confirmed", "claimed") if malicious else ("claimed",))
    ]


@settings(max_examples=examples(24), deadline=None)
@given(SETTINGS, st.integers(0, 2**32))
def test_nobody_is_named_wrongly(
    tmp_path_factory: pytest.TempPathFactory, setting: Setting, seed: int
) -> None:
    done = attributed(World(setting, seed).play(), tmp_path_factory.mktemp("world"))
    assert wrongs(done, setting.cast) == []
    forged = [row for row in done.dicts() if "forged-line" in (row["findings"] or ())]  # type: ignore[operator]
    assert {row["session_user_id"] for row in forged} <= {None}


@settings(max_examples=examples(2, 3), deadline=None, phases=WITHOUT_SHRINKING)
@given(SETTINGS, SEEDS, st.sampled_from([700, 3000, 20_000]))
def test_the_size_of_batches_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, setting: Setting, seed: int, block_bytes: int
) -> None:
    world = World(setting, seed).play()
    directory = tmp_path_factory.mktemp("world")
    server, pooler, events = world.write(directory)
    whole = of(server, pooler, events, setting)
    pieces = of(server, pooler, events, setting, block_bytes)
    assert whole.dicts() == pieces.dicts()


@pytest.mark.parametrize("cast", ["tagged", "relay"])
@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("version", ["1.18", "1.25"])
def test_most_statements_of_announced_clients_are_named(
    tmp_path: Path, cast: str, verbose: bool, version: str
) -> None:
    setting = Setting(cast=CASTS[cast], verbose=verbose, version=version, statements=600)
    rows = attributed(World(setting, 5).play(), tmp_path).dicts()
    people = [row for row in rows if row["truth"]]
    named = [row for row in people if row["session_user_id"] == row["truth"]]
    assert len(named) > (0.99 if verbose or cast == "tagged" else 0.85) * len(people)
    grades = {row["attribution_grade"] for row in named}
    assert grades == {"proven"} if cast == "tagged" else {"confirmed"}


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("cast", ["tagged", "open"])
def test_no_single_line_makes_a_wrong_name_by_being_lost(
    tmp_path: Path, cast: str, verbose: bool
) -> None:
    kinds = (("1.18", True), ("1.25", False))
    for version, add_host in kinds if STATEMENTS else kinds[verbose : verbose + 1]:
        setting = Setting(
            cast=CASTS[cast],
            verbose=verbose,
            version=version,
            add_host=add_host,
            statements=25 if STATEMENTS else 5,
            clients=5,
            backends=2,
        )
        files = World(setting, 11).play().write(tmp_path)
        for path in files:
            lines = path.read_text("utf-8").splitlines(keepends=True)
            for at in range(0, len(lines), 1 if STATEMENTS else 4):
                path.write_text("".join(lines[:at] + lines[at + 1 :]), "utf-8")
                done = of(*files, setting)
                assert wrongs(done, setting.cast) == [], (path.name, at, lines[at])
            path.write_text("".join(lines), "utf-8")


# -- the long proof --------------------------------------------------------------------------------


def settled(seed: int) -> tuple[str, Setting]:
    """A setting, by its number."""
    chance = random.Random(seed)
    name = chance.choice(sorted(CASTS))
    faults = tuple(one for one in FAULTS if chance.random() < 0.12)
    return name, Setting(
        mode=chance.choice(MODES),
        version=chance.choice(VERSIONS),
        add_host=chance.random() < 0.75,
        verbose=chance.random() < 0.5,
        cast=CASTS[name],
        clients=chance.randint(2, 14),
        backends=chance.randint(1, 5),
        statements=chance.choice([300, 2000, 6000]),
        faults=faults,
        logs_settings=chance.random() < 0.9,
        pooler_ahead_us=chance.choice(CLOCKS),
        sidecar_ahead_us=chance.choice(CLOCKS),
    )


def tally(seed: int) -> tuple[Counter[tuple[str, ...]], list[str]]:
    """(grade, mode, cast, fault, right or wrong) of one world, and what mustn't be."""
    name, setting = settled(seed)
    directory = Path(mkdtemp())
    try:
        done = attributed(World(setting, seed).play(), directory)
    finally:
        shutil.rmtree(directory)
    counts: Counter[tuple[str, ...]] = Counter()
    rows = done.rows.select(["truth", "session_user_id", "attribution_grade"])
    for truth, named, grade in zip(*(one.to_pylist() for one in rows.columns), strict=True):
        if truth:
            verdict = "nobody" if named is None else "right" if named == truth else "wrong"
            for fault in setting.faults or ("none",):
                counts[grade, setting.mode, name, fault, verdict] += 1
            counts[grade, "", name, "", verdict] += 1
    found = [f"{seed} {setting}"] if wrongs(done, setting.cast) else []
    return counts, found


@pytest.mark.skipif(not STATEMENTS, reason="make prove")
def test_millions_of_statements_name_nobody_wrongly() -> None:
    total: Counter[tuple[str, ...]] = Counter()
    bad: list[str] = []
    seed = int(os.environ.get("SIMULATED_SEED", "1"))
    with ProcessPoolExecutor() as pool:
        while sum(n for key, n in total.items() if not key[1]) < STATEMENTS:
            for counts, found in pool.map(tally, range(seed, seed + 64)):
                total += counts
                bad += found
            seed += 64
    show(total)
    assert bad == []


def show(total: Counter[tuple[str, ...]]) -> None:
    """The table: what became of whom."""
    out = sys.__stdout__
    assert out is not None
    print(file=out)
    head = f"{'clients':10} {'mode':12} {'fault':18} {'grade':13} {'rows':>10} {'right':>10} {'wrong':>7}"
    print(head, file=out)
    keys = sorted({key[:4] for key in total}, key=lambda key: (key[2], key[1], key[3], key[0]))
    for grade, mode, name, fault in keys:
        n = {one: total[grade, mode, name, fault, one] for one in ("right", "wrong", "nobody")}
        print(
            f"{name:10} {mode or 'all':12} {fault or 'all':18} {grade:13} {sum(n.values()):>10,} "
            f"{n['right']:>10,} {n['wrong']:>7,}",
            file=out,
        )


def test_a_shrunk_story_is_short() -> None:
    """A failing case can be told: the world of a seed is the same every time."""
    setting = Setting(statements=20, cast=CASTS["tagged"])
    one, two = World(setting, 3).play(), World(setting, 3).play()
    assert (one.postgres, one.pooler, one.events) == (two.postgres, two.pooler, two.events)
    longer = World(replace(setting, statements=40), 3).play()
    assert longer.postgres[: len(one.postgres) // 2] == one.postgres[: len(one.postgres) // 2]


@pytest.mark.parametrize(
    ("ahead", "says"),
    [
        ("sidecar", "clocks differ: identity events come after the pooler's login"),
        ("pooler", "clocks differ: sessions begin before the pooler opened them"),
    ],
)
def test_clocks_that_differ_are_reported_and_declared(
    tmp_path: Path, ahead: str, says: str
) -> None:
    by_us = {"sidecar": 0, "pooler": 0} | {ahead: 400_000}
    setting = Setting(
        cast=CASTS["relay"],
        statements=600,
        pooler_ahead_us=by_us["pooler"],
        sidecar_ahead_us=by_us["sidecar"],
    )
    server, pooler, events = World(setting, 2).play().write(tmp_path)
    logs = ("--postgres-log", server, "--pgbouncer-log", pooler, "--identity-events", events)
    config = tmp_path / "config.toml"
    config.write_text("[clocks]\nskew_ms = 400\n")
    undeclared = scalple("reprocess", "--store", tmp_path / "one", *logs)
    declared = scalple("reprocess", "--store", tmp_path / "two", *logs, "--config", config)
    assert (undeclared.code, declared.code) == (0, 0)
    assert says in undeclared.err
    assert "clocks differ" not in declared.err


def watched(
    setting: Setting, seed: int, directory: Path
) -> tuple[Setting, Watched, tuple[Path, Path, Path]]:
    """A world whose files were looked at while they grew, undamaged; its setting, and the files."""
    setting = replace(setting, faults=tuple(set(setting.faults) - set(DAMAGES)))
    world = Watched(setting, seed)
    return setting, world, world.play().write(directory)


@settings(max_examples=examples(4, 5), deadline=None, phases=WITHOUT_SHRINKING)
@given(SETTINGS, SEEDS)
def test_following_the_logs_names_nobody_wrongly(
    tmp_path_factory: pytest.TempPathFactory, setting: Setting, seed: int
) -> None:
    setting, world, files = watched(setting, seed, tmp_path_factory.mktemp("world"))
    moments = world.moments(files, 5, random.Random(seed))
    done = attribute_live(*files, declared(setting), moments)
    assert wrongs(done, setting.cast) == []
    whole = of(*files, setting)
    assert [row["source_offset"] for row in done.dicts()] == [
        row["source_offset"] for row in whole.dicts()
    ]


@settings(max_examples=examples(2, 3), deadline=None, phases=WITHOUT_SHRINKING)
@given(SETTINGS, SEEDS, st.sampled_from([1, 3, 10, 40, 150]))
@example(Setting(cast=CASTS["tagged"], clients=6, backends=2, statements=100), 0, 10)
def test_events_that_lag_name_nobody_wrongly_meanwhile(
    tmp_path_factory: pytest.TempPathFactory, setting: Setting, seed: int, lag: int
) -> None:
    setting, world, files = watched(setting, seed, tmp_path_factory.mktemp("world"))
    moments = world.moments(files, 12, random.Random(seed), lag)
    done = attribute_live(*files, declared(setting), moments)
    assert wrongs(done, setting.cast) == []


@settings(max_examples=examples(1, 2), deadline=None, phases=WITHOUT_SHRINKING)
@given(SETTINGS, SEEDS)
def test_forgetting_what_has_passed_makes_nothing_surer(
    tmp_path_factory: pytest.TempPathFactory, setting: Setting, seed: int
) -> None:
    setting, world, files = watched(setting, seed, tmp_path_factory.mktemp("world"))
    moments = world.moments(files, 6, random.Random(seed))
    everything = attribute_live(*files, declared(setting), moments)
    forgetful = attribute_live(*files, declared(setting), moments, forget_us=3_000_000)
    assert wrongs(forgetful, setting.cast) == []
    assert_no_surer(forgetful, everything)


def assert_no_surer(forgetful: Attributed, everything: Attributed) -> None:
    """Nobody is named by less that isn't named by all, and no grade is better."""
    for with_all, with_less in zip(everything.dicts(), forgetful.dicts(), strict=True):
        assert with_less["session_user_id"] in (None, with_all["session_user_id"])
        grades = [GRADES.index(str(one["attribution_grade"])) for one in (with_all, with_less)]
        assert grades[0] <= grades[1]


@settings(max_examples=examples(1, 2), deadline=None, phases=WITHOUT_SHRINKING)
@given(SETTINGS, SEEDS)
def test_transactions_that_have_passed_are_forgotten_and_nobody_can_tell(
    tmp_path_factory: pytest.TempPathFactory, setting: Setting, seed: int
) -> None:
    setting = replace(setting, verbose=True)
    setting, world, files = watched(setting, seed, tmp_path_factory.mktemp("world"))
    moments = world.moments(files, 8, random.Random(seed))
    rules = declared(setting)
    kept = attribute_live(*files, rules, moments, forget_us=1_000_000, forget_pairs=False)
    gone = attribute_live(*files, rules, moments, forget_us=1_000_000)
    assert gone.dicts() == kept.dicts()


@settings(max_examples=examples(1, 2), deadline=None, phases=WITHOUT_SHRINKING)
@given(SETTINGS, SEEDS, st.sampled_from([1, 3]), st.sampled_from([0, 40]))
def test_a_horizon_that_follows_closely_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, setting: Setting, seed: int, near_s: int, lag: int
) -> None:
    setting, world, files = watched(setting, seed, tmp_path_factory.mktemp("world"))
    moments, rules = world.moments(files, 12, random.Random(seed), lag), declared(setting)
    everything = attribute_live(*files, rules, moments)
    closely = attribute_live(*files, rules, moments, near=timedelta(seconds=near_s))
    # Whom a pooler left behind that died may seem to stay longer.
    if "pooler-dies" not in setting.faults:
        assert closely.dicts() == everything.dicts()
    assert_no_surer(closely, everything)


class Abandoned(Watched):
    """A client leaves while the server works for it; its statements go on for a while."""

    def abandon(self, pause_us: int) -> None:
        self.up()
        self.tick()
        self.say("start", heartbeat_s=10)
        one = self.join(self.setting.cast[0])
        self.begin(one, ["read", "read"])
        self.run(one, "read")
        held = one.backend
        assert held is not None
        self.leave(one)
        other = self.join(self.setting.cast[0])
        for _ in range(4):
            self.now += pause_us
            self.begin(other, ["read"])
            self.run(other, other.plan.pop(0))
            self.end(other)
            self.join(self.setting.cast[0])
        self.audit(held, "SELECT", f"SELECT 7 /* truth:{one.truth} */")
        self.tick()

    def disconnect(self, one: Backend, why: str) -> None:
        self.log_pooler(
            "LOG",
            f"S-{one.pointer}: {DATABASE}/{ROLE}@127.0.0.1:{SERVER_PORT} closing because: {why}",
        )
        self.backends.remove(one)


@pytest.mark.parametrize("cast", ["tagged", "relay"])
def test_what_goes_on_after_its_client_has_left_is_named_however_close_the_horizon(
    tmp_path: Path, cast: str
) -> None:
    setting = Setting(cast=CASTS[cast], version="1.25", verbose=True)
    world = Abandoned(setting, 3)
    world.abandon(4_000_000)
    files = world.write(tmp_path)
    moments = world.moments(files, 8, random.Random(3))
    everything = attribute_live(*files, declared(setting), moments)
    closely = attribute_live(*files, declared(setting), moments, near=timedelta(seconds=1))
    assert closely.dicts() == everything.dicts()
    last = closely.dicts()[-1]
    assert last["truth"] in (last["session_user_id"], *(last["attribution_candidates"] or ()))  # type: ignore[misc]


def test_names_that_nothing_refers_to_are_forgotten_and_nobody_can_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(cast=("relay", "burglar"), statements=150)
    world = Watched(setting, 9)
    files = world.play().write(tmp_path)
    moments, rules = world.moments(files, 7, random.Random(9)), declared(setting)
    names: list[int] = []

    def watch(correlator: Correlator) -> None:
        names.append(remembered(correlator)["Labels._names"])

    kept = attribute_live(*files, rules, moments, watch=watch)
    monkeypatch.setattr("scalple.correlate.labels.NAMES_KEPT", 5)
    assert attribute_live(*files, rules, moments, watch=watch).dicts() == kept.dicts()
    assert names[-1] < names[len(names) // 2 - 1]


def test_what_is_followed_closely_is_named_as_well(tmp_path: Path) -> None:
    setting = Setting(cast=CASTS["tagged"], statements=200)
    world = Watched(setting, 5)
    files = world.play().write(tmp_path)
    done = attribute_live(*files, declared(setting), world.moments(files, 25, random.Random(5)))
    people = [row for row in done.dicts() if row["truth"]]
    proven = [row for row in people if row["attribution_grade"] == "proven"]
    assert len(proven) > 0.99 * len(people) > 100
