"""What expired is gone without a trace but its leaf; all else is there, verifies and is proven."""

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scalple.store import compaction, consistency, expire, holds, merging, proof
from scalple.store.checkpoint import open_checkpoint
from scalple.store.layout import OriginLayout, origin_layout
from scalple.store.reader import StoreReader
from scalple.store.retained import read_holds
from scalple.store.retentionage import Age, Limit, Policy
from scalple.store.rowid import RowId
from scalple.store.verified import VerifiedFiles
from scalple.store.verify import verify
from scalple.store.writer import StoreWriter
from tests.store.expiringmodel import HoldOf, Model, Row
from tests.store.sample import signing_key, table
from tests.store.test_compaction import ABOUT, NAMED, answers
from tests.store.test_digest import assert_same

BEGIN = datetime(2026, 1, 10, 12, tzinfo=UTC)
AGE = Age(days=60)
POLICY = Policy(("gdpr",), None, Limit(AGE, "keep_at_most"))
KINDS_TOLD = ("audit", "evidence", "denied", "gaps", "unparsed", "revisions")


class World:
    """A store and its model, under one clock."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.now = BEGIN
        self.key = signing_key(store)
        self.model = Model()
        self.proofs: dict[int, bytes] = {}
        self.heads: list[bytes] = []
        self.salts: dict[tuple[int, str], bytes] = {}
        self._writer: StoreWriter | None = None

    @property
    def layout(self) -> OriginLayout:
        return origin_layout(self.store, "db1")

    def tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def writer(self) -> StoreWriter:
        if self._writer is None:
            self._writer = StoreWriter.open(
                self.store, "db1", self.key, create=True, clock=self.tick
            )
        return self._writer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def commit(self, drawn: dict[str, Any]) -> None:
        """Rows of several kinds."""
        model, n = self.model, len(self.model.committed)
        made: dict[str, list[dict[str, Any]]] = {}

        def add(row: Row, values: dict[str, Any]) -> None:
            model.rows.append(row)
            made.setdefault(row.kind, []).append(values)

        for days in drawn["evidence"]:
            when = self.now - timedelta(days=days)
            add(
                Row("evidence", model.next_seq("evidence"), n, when),
                {"source": "identity", "event": "open", "ts": when},
            )
        for days, cited in drawn["audit"]:
            when, known = self.now - timedelta(days=days), model.seqs("evidence")
            cites = known[-1 - cited :][:1] if cited is not None else []
            add(
                Row("audit", model.next_seq("audit"), n, when, frozenset(cites)),
                {
                    "log_time": when,
                    "query": f"SELECT {model.next_seq('audit')}",
                    "session_user_id": "ann",
                    "attribution_grade": "proven",
                    "attribution_evidence": [f"db1/evidence#{one}" for one in cites] or None,
                    "subjects": [NAMED],
                    "affected_tables": ["public.users"],
                    "columns_accessed": ["public.users.email"],
                    "access_shape": "full",
                },
            )
        for days in drawn["gaps"]:
            at = None if days is None else self.now - timedelta(days=days)
            add(Row("gaps", model.next_seq("gaps"), n, at), {"reason": "x", "log_time": at})
        if drawn["unparsed"]:
            add(Row("unparsed", model.next_seq("unparsed"), n), {"reason": "x", "raw": b"\x00"})
        there = model.seqs("audit")
        if drawn["revised"] is not None and there:
            known = model.seqs("evidence")[-1:]
            seq = there[drawn["revised"] % len(there)]
            changes = {"session_user_id": "bob", "findings": ["late"]}
            if drawn["unparsed"]:
                changes |= {"attribution_evidence": [f"db1/evidence#{one}" for one in known]}
            add(
                Row("revisions", model.next_seq("revisions"), n, None, frozenset(known), seq),
                {
                    "audit_seq": seq,
                    "changes": json.dumps(changes),
                    "evidence": [f"db1/evidence#{one}" for one in known],
                },
            )
        firsts = {k: model.next_seq(k) - len(rows) for k, rows in made.items()}
        self.writer().commit(
            {kind: table(kind, firsts[kind], rows) for kind, rows in made.items()}, [], {}
        )
        model.committed.append(self.now)
        for path in self.layout.segments.glob(f"{n:020d}-*"):
            metadata = pq.read_metadata(path).metadata
            self.salts[n, path.name.split("-")[1]] = bytes.fromhex(
                metadata[b"scalple.salt_key"].decode()
            )

    def expire(self) -> expire.Outcome:
        """By the policy; the model likewise."""
        self.close()
        if not self.model.committed:
            self.commit({"audit": [], "evidence": [0], "gaps": [], "unparsed": 0, "revised": None})
            self.close()
        before = len(self.model.gone)
        decided = self.tick()
        done = expire.expire(
            self.store,
            "db1",
            self.key,
            POLICY,
            today=self.now.date(),
            clock=lambda: decided,
            verified=VerifiedFiles(None),
        )
        self.model.expire(AGE.before(decided))
        if done.manifest is not None:
            self.model.committed.append(decided)
        assert (done.manifest is None) == (len(self.model.gone) == before)
        return done

    def hold(self, days: tuple[int, int]) -> None:
        """Over some days before now."""
        since, until = (self.now - timedelta(days=one) for one in days)
        name = f"hold-{len(self.model.holds)}"
        one = holds.Hold(
            id=name,
            reason="court",
            ticket=None,
            since=since.isoformat(),
            until=until.isoformat(),
            placed_at=self.now.isoformat(),
            placed_by="ann",
        )
        self._state(lambda known: holds.placed(known, one))
        self.model.holds[name] = HoldOf(since, until)

    def release(self) -> None:
        """The first one that is in force."""
        name = next((k for k, one in self.model.holds.items() if one.in_force), None)
        if name is not None:
            now = self.now.isoformat()
            self._state(lambda known: holds.released(known, name, now, "ann", "over"))
            self.model.holds[name].in_force = False

    def _state(self, change: Callable[[holds.Holds], holds.Holds]) -> None:
        writer = self.writer()
        known = read_holds(self.layout, writer._chain.manifests)
        writer.commit({}, [], {holds.HOLDS: holds.to_bytes(change(known))})
        self.model.committed.append(self.now)

    def compact(self) -> None:
        """Makes the index."""
        if self.model.committed:
            compaction.compact(self.store, "db1", self.key, VerifiedFiles(None))

    def prove(self) -> None:
        """Of every row that has no proof yet; and keeps the head."""
        if not self.model.committed:
            return
        reader = self.opened()
        for seq in self.model.seqs("audit"):
            if seq not in self.proofs:
                made = proof.make(reader, [RowId("db1", "audit", seq)])
                self.proofs[seq] = proof.to_bytes(made)
        self.heads.append(reader.signed_head("db1").encode())

    def opened(self) -> StoreReader:
        return StoreReader.open(self.store, verified=VerifiedFiles(None))


drawn_commits = st.fixed_dictionaries(
    {
        "audit": st.lists(st.tuples(st.integers(0, 90), st.none() | st.integers(0, 2)), max_size=3),
        "evidence": st.lists(st.integers(0, 90), max_size=2),
        "gaps": st.lists(st.none() | st.integers(0, 90), max_size=1),
        "unparsed": st.booleans(),
        "revised": st.none() | st.integers(0, 20),
    }
)
steps = st.one_of(
    st.tuples(st.just("commit"), drawn_commits),
    st.tuples(st.just("commit"), drawn_commits),
    st.tuples(st.just("days"), st.integers(1, 40)),
    st.tuples(st.sampled_from(["expire", "compact", "close", "prove", "release"]), st.none()),
    st.tuples(st.just("hold"), st.tuples(st.integers(5, 150), st.integers(0, 4))),
)


@settings(
    max_examples=int(os.environ.get("EXPIRY_EXAMPLES", "2")),
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(steps, min_size=10, max_size=24), st.integers(0, 1))
def test_a_store_is_its_model_whatever_expires(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    made: list[tuple[str, Any]],
    small: int,
) -> None:
    if small:
        monkeypatch.setattr(merging, "FILE_ROWS_MAX", 4)
        monkeypatch.setattr(compaction, "RUN_ROWS_MAX", 11)
    directory = tmp_path_factory.mktemp("expiry")
    world = World(directory / "store")
    for name, value in [*made, ("prove", None), ("days", 30), ("expire", None)]:
        if name == "days":
            world.now += timedelta(days=value)
        elif value is None:
            getattr(world, name)()
        else:
            getattr(world, name)(value)
    world.close()
    check(world)
    world.compact()
    check(world)
    shutil.rmtree(directory)


def test_a_digest_that_counts_what_expired_goes_and_the_next_months_stays(tmp_path: Path) -> None:
    world = World(tmp_path / "store")
    plain: dict[str, Any] = {"evidence": [], "gaps": [], "unparsed": False, "revised": None}
    for days in (0, 10, 12, 30):
        world.now = BEGIN + timedelta(days=days)  # 10, 20 and 22 January; 9 February
        world.commit({**plain, "audit": [(0, None), (0, None)]})
    world.now = BEGIN + timedelta(days=65)
    done = world.expire()
    assert done.plan is not None
    assert [manifest.n for manifest in done.plan.digests] == [1, 2]
    commits = world.opened().audit_commits()
    assert [(one.first_seq, bool(one.digest)) for one in commits] == [
        (2, False),
        (4, False),
        (6, True),
    ]
    check(world)
    world.compact()
    check(world)


def check(world: World) -> None:
    """Everything that the store must be."""
    reader = world.opened()
    found = answers(reader, None, ABOUT)
    for kind in KINDS_TOLD:
        if kind != "gaps":
            assert [row["seq"] for row in found[kind]] == world.model.seqs(kind), kind
    gaps = [one for ref in reader.segments("gaps") for one in ref.table()["seq"].to_pylist()]
    assert gaps == world.model.seqs("gaps")
    assert [row["seq"] for row in found["direct"]] == [
        row.seq
        for row in sorted(world.model.rows, key=lambda row: (row.time or BEGIN, row.seq))
        if row.kind == "audit"
    ]
    assert_same(reader, None, ABOUT)
    report = verify(world.store)
    assert report.rows == len(world.model.rows)
    assert report.expired_rows == len(world.model.gone)
    assert not [note for note in report.notes if "still" in note]
    check_proofs(world, reader)
    check_salts(world)


def check_proofs(world: World, reader: StoreReader) -> None:
    """Those made before hold for ever; new ones are made of what is left."""
    chain = reader.chain("db1")
    keys = {"db1": chain.keys}
    for data in world.proofs.values():
        assert proof.check(data, keys)
    head = reader.signed_head("db1").encode()
    for old in (one for one in world.heads if one != head):
        grown = consistency.make(chain, open_checkpoint(old, chain.keys)[0], head)
        consistency.check(grown, old, chain.keys)
    for seq in world.model.seqs("audit")[:3]:
        again = proof.make(reader, [RowId("db1", "audit", seq)])
        assert proof.check(proof.to_bytes(again), keys)


def check_salts(world: World) -> None:
    """Of no segment that expired the salt key is anywhere."""
    left = {(row.commit, row.kind) for row in world.model.rows}
    gone = {salt for at, salt in world.salts.items() if at not in left}
    kept = set(world.salts.values()) - gone
    told: set[bytes] = set()
    for path in world.store.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(salt in data or salt.hex().encode() in data for salt in gone), path
            if path.name.startswith("parts-"):
                told.update(pq.read_table(path)["salt_key"].to_pylist())
    assert told <= kept
