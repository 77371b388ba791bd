"""Runs: a modelled pooler serves clients that rename themselves; no run speaks for another client.

The model writes what PostgreSQL would log, and knows whom each record belongs to. Clients own
their names, so a run's label must be one of its true client's, or be marked doubtful.
"""

import itertools
import random
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.correlate.runs import Records, RunCutter, Runs

NAMES = 100
"""Client k owns the name codes from k * NAMES + 1 on."""


@dataclass
class Backend:
    """One server session of the pool."""

    number: int
    name: int = 0
    line: int = 0
    statement: int = 0
    transaction: int = 0


@dataclass
class Model:
    """A pooler in transaction mode; rows are (session, line, tx, name, stmt, label, renames)."""

    random: random.Random
    clients: int
    names: list[int] = field(default_factory=list)
    backends: list[Backend] = field(default_factory=list)
    rows: list[tuple[int, int, int, int, int, int, bool]] = field(default_factory=list)
    truth: list[int] = field(default_factory=list)

    def log(
        self,
        backend: Backend,
        client: int,
        *,
        label: int = -1,
        audit: bool = True,
        renames: bool = False,
    ) -> None:
        """One record."""
        backend.line += 1
        backend.statement += audit
        self.rows.append(
            (
                backend.number,
                backend.line,
                backend.transaction,
                backend.name,
                backend.statement if audit else -1,
                label,
                renames,
            )
        )
        self.truth.append(client)

    def serve(self, client: int, backend: Backend) -> None:
        """One transaction of a client, with a replay before it where the names differ."""
        if self.names[client] != backend.name:
            backend.transaction += 1
            backend.name = self.names[client]
            self.log(backend, -1, label=backend.name)
        backend.transaction += 1
        if self.random.random() < 0.1:
            return  # a transaction that logs nothing
        kept = backend.name
        local = False
        for _ in range(self.random.randint(1, 4)):
            chance = self.random.random()
            if chance < 0.06:
                backend.name = kept = client * NAMES + self.random.randint(1, NAMES - 1)
                self.log(backend, client, renames=self.random.random() < 0.5)
                local = False
            elif chance < 0.12:
                backend.name = client * NAMES + self.random.randint(1, NAMES - 1)
                local = True
                self.log(backend, client, renames=True)
            else:
                self.log(backend, client, audit=self.random.random() < 0.9)
        if local:
            backend.name = kept
        self.names[client] = backend.name

    def run(self, steps: int, backends: int) -> None:
        """Serve random clients on random backends."""
        self.names = [k * NAMES + 1 for k in range(self.clients)]
        self.backends = [Backend(n) for n in range(backends)]
        for backend in self.backends:
            self.log(backend, -1, audit=False)  # connection received
        for _ in range(steps):
            client = self.random.randrange(self.clients)
            self.serve(client, self.random.choice(self.backends))


def played(seed: int, clients: int, backends: int, steps: int) -> Model:
    """A model that has served."""
    model = Model(random.Random(seed), clients)
    model.run(steps, backends)
    return model


def records(rows: list[tuple[int, int, int, int, int, int, bool]]) -> Records:
    """Rows as columns."""
    columns = list(zip(*rows, strict=True)) or [()] * 7
    session, line, transaction, name, statement, label = (
        np.array(column, np.int64) for column in columns[:6]
    )
    return Records(
        session=session,
        line=line,
        lines=np.ones(len(rows), np.int64),
        begins=line == 1,
        transaction=transaction,
        name=name,
        statement=statement,
        label=label,
        connection=np.full(len(rows), -1),
        announcing=np.zeros(len(rows), bool),
        renames=np.array(columns[6], bool),
        time_us=np.arange(len(rows), dtype=np.int64),
    )


FIELDS = ("replay", "label", "doubtful", "fresh", "drift", "missing", "begins_unseen")


def cut(rows: list[tuple[int, int, int, int, int, int, bool]], cuts: list[int]) -> Runs:
    """Runs of the rows, given in batches that end at `cuts`; times don't matter here."""
    cutter = RunCutter()
    edges = sorted({0, len(rows), *(one % (len(rows) + 1) for one in cuts)})
    parts = [
        cutter.cut(records(rows[begin:end]), np.zeros(end - begin, bool))
        for begin, end in itertools.pairwise(edges)
    ]
    joined = {name: np.concatenate([getattr(one, name) for one in parts]) for name in FIELDS}
    filler = {
        "idle_us": joined["missing"],
        "opened_us": joined["missing"],
        "opens_transaction": joined["replay"],
    }
    return Runs(**joined, **filler)


SEEDS = st.integers(0, 2**32)
FEW = settings(max_examples=150, deadline=None)


def assert_nobody_speaks_for_another(model: Model, runs: Runs, kept: list[int]) -> None:
    """Every label without a doubt is its record's own client's."""
    for row, at in enumerate(kept):
        client, label = model.truth[at], int(runs.label[row])
        if client >= 0 and label > 0 and not runs.doubtful[row]:
            assert label // NAMES == client, (row, model.rows[at])
        if client >= 0 and label > 0 and runs.fresh[row]:
            assert label // NAMES == client
        if client >= 0:
            assert not runs.replay[row]


@FEW
@given(SEEDS, st.integers(1, 4), st.integers(1, 3), st.integers(0, 40))
def test_no_run_speaks_for_another_client(
    seed: int, clients: int, backends: int, steps: int
) -> None:
    model = played(seed, clients, backends, steps)
    runs = cut(model.rows, [])
    assert_nobody_speaks_for_another(model, runs, list(range(len(model.rows))))
    assert not runs.missing.any()
    # Whatever the pooler wrote itself is known for it.
    labels = [row[5] for row in model.rows]
    assert [bool(one) for one in runs.replay] == [one >= 0 for one in labels]


@FEW
@given(SEEDS, st.integers(1, 4), st.integers(1, 3), st.data())
def test_lost_records_end_runs_and_are_counted(
    seed: int, clients: int, backends: int, draw: st.DataObject
) -> None:
    model = played(seed, clients, backends, 30)
    lost = draw.draw(st.sets(st.integers(0, len(model.rows) - 1), max_size=12))
    kept = [at for at in range(len(model.rows)) if at not in lost]
    rows = [model.rows[at] for at in kept]
    if not rows:
        return
    runs = cut(rows, draw.draw(st.lists(st.integers(0, 1000), max_size=5)))
    assert_nobody_speaks_for_another(model, runs, kept)
    for session in {row[0] for row in rows}:
        lines = [row[1] for row in rows if row[0] == session]
        here = [n for n, row in enumerate(rows) if row[0] == session]
        seen = int(runs.missing[here].sum())
        assert seen >= lines[-1] - lines[0] + 1 - len(lines)
        assert bool(runs.begins_unseen[here].any()) == (lines[0] > 1)


@FEW
@given(SEEDS, st.integers(1, 4), st.integers(1, 3), st.lists(st.integers(0, 1000), max_size=12))
def test_the_cut_into_batches_changes_nothing(
    seed: int, clients: int, backends: int, cuts: list[int]
) -> None:
    model = played(seed, clients, backends, 30)
    whole, parts = cut(model.rows, []), cut(model.rows, cuts)
    single = cut(model.rows, list(range(len(model.rows))))
    for name in FIELDS:
        assert np.array_equal(getattr(whole, name), getattr(parts, name)), name
        assert np.array_equal(getattr(whole, name), getattr(single, name)), name


def rows_of(
    *rows: tuple[int, int, int, int, int, bool],
) -> list[tuple[int, int, int, int, int, int, bool]]:
    """Rows of one session, given as (line, tx, name, statement, label, renames)."""
    return [(0, *row) for row in rows]


BEGIN = (1, -1, 0, -1, -1, False)
REPLAY = (2, 1, 7, 1, 7, False)


def test_a_run_lasts_until_a_hole_in_the_lines() -> None:
    runs = cut(rows_of(BEGIN, REPLAY, (3, 2, 7, 2, -1, False), (5, 4, 7, 3, -1, False)), [])
    assert runs.label.tolist() == [-1, 7, 7, -1]
    assert runs.missing.tolist() == [0, 0, 0, 1]


def test_a_run_lasts_until_a_hole_in_the_statements() -> None:
    runs = cut(rows_of(BEGIN, REPLAY, (3, 2, 7, 2, -1, False), (4, 3, 7, 5, -1, False)), [])
    assert runs.label.tolist() == [-1, 7, 7, -1]
    assert runs.missing.tolist() == [0, 0, 0, 2]


def test_a_replays_text_inside_a_transaction_opens_no_run() -> None:
    inside = rows_of(BEGIN, REPLAY, (3, 2, 7, 2, -1, False), (4, 2, 9, 3, 9, False))
    runs = cut(inside, [])
    assert runs.label.tolist() == [-1, 7, 7, 7]
    assert runs.replay.tolist() == [False, True, False, False]


def test_a_transaction_between_replay_and_statement_ends_freshness() -> None:
    direct = cut(rows_of(BEGIN, REPLAY, (3, 2, 7, 2, -1, False)), [])
    hidden = cut(rows_of(BEGIN, REPLAY, (3, 3, 7, 2, -1, False)), [])
    assert direct.fresh.tolist() == [False, False, True]
    assert hidden.fresh.tolist() == [False, False, False]


def test_an_ended_session_is_forgotten() -> None:
    cutter = RunCutter()
    rows = rows_of(BEGIN, REPLAY, (3, -1, 7, -1, -1, False))
    cutter.cut(records(rows), np.array([False, False, True]))
    assert cutter.open_sessions == {}
