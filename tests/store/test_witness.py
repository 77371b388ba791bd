"""The client of C2SP tlog-witness against a witness that keeps to the protocol, and some that don't."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scalple.ingest.errors import VerificationError
from scalple.store import merkle
from scalple.store.checkpoint import Checkpoint, open_checkpoint
from scalple.store.note import VerifierKey
from scalple.store.witness import COSIGNATURE, WitnessKey
from tests.commandline import Said, scalple
from tests.store.sample import make_store
from tests.store.test_anchors import with_the_same_key

TIME = 1_773_000_000


class Witness:
    """It knows logs by their keys, remembers one checkpoint of each, and signs what continues it."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.key = WitnessKey("witness.example/w1", self.private.public_key().public_bytes_raw())
        self.logs: dict[str, VerifierKey] = {}
        self.seen: dict[str, Checkpoint] = {}
        self.requests = 0

    @property
    def key_text(self) -> str:
        encoded = base64.b64encode(COSIGNATURE + self.key.public).decode()
        return f"{self.key.name}+{self.key.key_id.hex()}+{encoded}"

    def answer(self, body: bytes) -> tuple[int, str, bytes]:
        """Status, content type and body, in the order of the protocol's checks."""
        self.requests += 1
        head, _, note = body.partition(b"\n\n")
        first, *lines = head.decode().split("\n")
        assert first.startswith("old ")
        old = int(first.removeprefix("old "))
        origin = note.split(b"\n", 1)[0].decode()
        if origin not in self.logs:
            return 404, "text/plain", b""
        try:
            new, _ = open_checkpoint(note, [self.logs[origin]])
        except VerificationError:
            return 403, "text/plain", b""
        if old > new.size:
            return 400, "text/plain", b""
        seen = self.seen.get(origin, Checkpoint(origin, 0, b""))
        if old != seen.size or (old == new.size and old and seen.root != new.root):
            return 409, "text/x.tlog.size", f"{seen.size}\n".encode()
        if 0 < old < new.size:
            proof = [base64.b64decode(line) for line in lines]
            try:
                merkle.verify_consistency(old, new.size, proof, seen.root, new.root)
            except VerificationError:
                return 422, "text/plain", b""
        elif lines:
            return 422, "text/plain", b""
        self.seen[origin] = new
        text = note.partition(b"\n\n")[0].decode() + "\n"
        signed = self.private.sign(f"cosignature/v1\ntime {TIME}\n{text}".encode())
        whole = base64.b64encode(self.key.key_id + TIME.to_bytes(8, "big") + signed).decode()
        return 200, "text/plain", f"— {self.key.name} {whole}\n".encode()


@contextmanager
def served(witness: Witness) -> Iterator[str]:
    """Its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/log/add-checkpoint"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, kind, answer = witness.answer(body)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/log"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def witness() -> Witness:
    """One that knows no log yet."""
    return Witness()


def ask(witness: Witness, store: Path) -> Said:
    """`anchor` with this witness, which is told the log's key."""
    text = (store / "db1" / "public-key").read_text().strip()
    witness.logs["db1"] = VerifierKey.from_text(text)
    return submit(witness, store)


def submit(witness: Witness, store: Path) -> Said:
    key = store.with_name("witness.key")
    key.write_text(f"{witness.key_text}\n")
    with served(witness) as url:
        return scalple("anchor", "--store", store, "--to", url, "--witness-key", key)


def test_a_growing_log_is_cosigned_each_time(tmp_path: Path, witness: Witness) -> None:
    store = tmp_path / "store"
    for commits in (1, 1, 3, 2, 0):
        make_store(store, commits)
        said = ask(witness, store)
        assert said.code == 0, said.err
    assert witness.seen["db1"].size == 7
    kept = tmp_path / "cosigned.txt"
    kept.write_text(said.out)
    key = tmp_path / "witness.key"
    verified = scalple("verify", "--store", store, "--anchors", kept, "--witness-key", key)
    assert verified.code == 0, verified.err
    kept.write_bytes((store / "db1" / "checkpoint").read_bytes())
    verified = scalple("verify", "--store", store, "--anchors", kept, "--witness-key", key)
    assert (verified.code, "isn't cosigned" in verified.err) == (7, True)


def test_a_witness_notices_a_cut_a_fork_and_a_rewritten_log(
    tmp_path: Path, witness: Witness
) -> None:
    store = make_store(tmp_path / "store", 3)
    assert ask(witness, store).code == 0
    for name, commits, message in (
        ("cut", 2, "was cut: the witness has cosigned 3 manifests, found 2"),
        ("fork", 3, "equivocation: the witness has cosigned another root of db1 at size 3"),
        ("rewritten", 5, "doesn't continue what the witness has cosigned (size 3, status 422)"),
    ):
        other = with_the_same_key(store, tmp_path / name, commits)
        said = submit(witness, other)
        assert (said.code, said.out) == (7, ""), name
        assert message in said.err


def test_a_witness_that_does_not_know_the_log_or_its_key(tmp_path: Path, witness: Witness) -> None:
    store = make_store(tmp_path / "store", 1)
    said = submit(witness, store)
    assert (said.code, "doesn't know db1\n" in said.err) == (4, True)
    witness.logs["db1"] = VerifierKey.of("db1", Ed25519PrivateKey.generate())
    said = submit(witness, store)
    assert (said.code, "under this key" in said.err) == (4, True)


@pytest.mark.parametrize("fault", ["other-key", "other-text", "nothing", "size-grows", "broken"])
def test_a_witness_that_lies_is_not_believed(tmp_path: Path, fault: str) -> None:
    class Liar(Witness):
        def answer(self, body: bytes) -> tuple[int, str, bytes]:
            if fault == "size-grows":
                self.requests += 1
                return 409, "text/x.tlog.size", f"{min(self.requests, 3)}\n".encode()
            if fault == "broken":
                return 409, "text/x.tlog.size", b"many\n"
            if fault == "nothing":
                return 200, "text/plain", b""
            if fault == "other-key":
                self.private = Ed25519PrivateKey.generate()
            else:
                body = body.replace(b"db1\n3\n", b"db1\n4\n")
                self.logs.clear()
                line = b"\xe2\x80\x94 witness.example/w1 " + base64.b64encode(bytes(76))
                return 200, "text/plain", line + b"\n"
            return super().answer(body)

    said = ask(Liar(), make_store(tmp_path / "store", 3))
    assert said.code in (5, 7), said.err
    assert said.out == ""


def test_without_the_key_of_the_witness_nothing_is_sent(tmp_path: Path, witness: Witness) -> None:
    store = make_store(tmp_path / "store", 1)
    with served(witness) as url:
        said = scalple("anchor", "--store", store, "--to", url)
        assert (said.code, witness.requests) == (4, 0)
        (tmp_path / "log.key").write_text((store / "db1" / "public-key").read_text())
        key = tmp_path / "log.key"
        assert scalple("anchor", "--store", store, "--to", url, "--witness-key", key).code == 4
    assert scalple("anchor", "--store", store, "--to", url, "--witness-key", key).code == 4
    key.write_text(witness.key_text)
    assert scalple("anchor", "--store", store, "--to", url, "--witness-key", key).code == 5
