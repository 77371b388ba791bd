"""Keys by command: made, told of, changed, lost; and never seen anywhere but in their files."""

import os
from pathlib import Path

import pytest

from scalple.correlate.subjects import subject_token
from scalple.store import keys
from tests.commandline import SAMPLE, Said, scalple
from tests.store.sample import files


def made(directory: Path, kind: str, name: str) -> Path:
    path = directory / name
    origin = ("--origin", "sample") if kind == "signing" else ()
    said = scalple("keygen", kind, "--output", path, *origin)
    assert said.code == 0, said.err
    return path


def test_a_key_is_made_once_and_its_id_is_told(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        signing = scalple("keygen", "signing", "--output", tmp_path / "a", "--origin", "db1")
    finally:
        os.umask(previous)
    assert signing.code == 0
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert signing.out.startswith("db1+")
    shown = scalple(
        "keygen", "signing", "--show", tmp_path / "a", "--origin", "db1", "--origin", "x"
    )
    assert shown.out.splitlines()[0] + "\n" == signing.out
    assert shown.out.splitlines()[1].startswith("x+")
    subject = scalple("keygen", "subject", "--output", tmp_path / "b")
    secret = keys.subject_key(tmp_path, tmp_path / "b").secret
    assert subject.out == keys.subject_key_id(secret) + "\n"
    assert scalple("keygen", "access", "--output", tmp_path / "c").out.startswith("_access+")
    before = (tmp_path / "a").read_bytes()
    for kind in ("subject", "access"):
        again = scalple("keygen", kind, "--output", tmp_path / "a")
        assert (again.code, again.out) == (4, "")
        assert "never overwritten" in again.err
    assert (tmp_path / "a").read_bytes() == before
    for wrong in (
        ("signing", "--output", tmp_path / "d"),
        ("signing", "--origin", "db1"),
        ("subject", "--output", tmp_path / "d", "--origin", "db1"),
        ("subject", "--output", tmp_path / "no" / "d"),
        ("subject", "--show", tmp_path / "a"),
        ("signing", "--show", tmp_path / "b", "--origin", "db1"),
        ("signing", "--output", tmp_path / "d", "--origin", "DB 1"),
    ):
        said = scalple("keygen", *wrong)
        assert said.code in (3, 4), wrong
        assert said.out == ""
    assert not (tmp_path / "d").exists()


class Store:
    """The sample, read in two halves, the second one under other keys; and all that was said."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = directory / "store"
        self.said: list[Said] = []
        self.log = directory / "postgresql.csv"
        self.names = {kind: made(directory, kind, f"{kind}.key") for kind in ("signing", "subject")}
        self.former: list[Path] = []

    def run(self, *arguments: str | Path) -> Said:
        said = scalple(*arguments, "--config", self.config())
        self.said.append(said)
        return said

    def config(self) -> Path:
        path = self.directory / "config.toml"
        sample = (SAMPLE / "config.toml").read_text().replace(' = ["', f' = ["{SAMPLE}/', 3)
        former = ", ".join(f'"{one}"' for one in self.former)
        path.write_text(
            f'{sample}\n[keys]\nsubject_key_file = "{self.names["subject"]}"\n'
            f'signing_key_file = "{self.names["signing"]}"\nformer_subject_key_files = [{former}]\n'
        )
        return path

    def read(self, share: float) -> Said:
        """So much of the log."""
        whole = (SAMPLE / "postgresql.csv").read_bytes()
        # Records may span lines; each begins with a time at the start of a line.
        cut = whole.rindex(b"\n2", 0, int(len(whole) * share)) + 1
        self.log.write_bytes(whole[:cut])
        schema = ("--schema", SAMPLE / "schema.sql")
        return self.run("reprocess", "--store", self.store, "--postgres-log", self.log, *schema)

    def direct(self, *more: str | Path) -> Said:
        return self.run(
            "query", "--store", self.store, "--subject", "customer_id=4711",
            "--disclosure", "controller", "--format", "json", *more,
        )  # fmt: skip


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    one = Store(tmp_path_factory.mktemp("changed"))
    assert one.read(0.15).code == 0
    for kind in ("signing", "subject"):
        new = made(one.directory, kind, f"{kind}-2.key")
        old, one.names[kind] = one.names[kind], new
        refused = one.read(0.15)
        assert refused.code == 4, refused.err
        assert "rotate-key" in refused.err
        one.names[kind] = old
        said = one.run("rotate-key", kind, "--store", one.store, "--new-key", new)
        assert said.code == 0, said.err
        assert scalple("keygen", kind, "--show", new, *one_origin(kind)).out == said.out
        again = one.run("rotate-key", kind, "--store", one.store, "--new-key", new)
        assert "already" in again.err
        if kind == "subject":
            one.former.append(old)
        one.names[kind] = new
        present = one.run("rotate-key", kind, "--store", one.store, "--new-key", new)
        assert (present.code, present.out) == (4, "")
        assert "it is the present key" in present.err
    assert one.read(0.3).code == 0
    return one


def one_origin(kind: str) -> tuple[str, ...]:
    return ("--origin", "sample") if kind == "signing" else ()


def test_a_subject_is_found_under_every_key_that_the_store_had(
    changed: Store, sample_store: Path
) -> None:
    found = changed.direct().json()
    asked = ("--subject", "customer_id=4711", "--disclosure", "controller", "--format", "json")
    expected = scalple("query", "--store", sample_store, *asked).json()
    offsets = sorted(row["source_offset"] for row in expected["direct"])
    read = [one for one in offsets if one < changed.log.stat().st_size]
    assert sorted(row["source_offset"] for row in found["direct"]) == read
    secrets = [
        keys.subject_key(changed.directory, path).secret
        for path in (changed.names["subject"], *changed.former)
    ]
    tokens = {subject_token(one, "customer_id", "4711") for one in secrets}
    seen = {one["token"] for row in found["direct"] for one in row["subjects"]}
    assert tokens <= seen
    assert "unsearched" not in found


def test_verify_follows_with_the_first_key_and_with_the_last(changed: Store) -> None:
    for names in (("signing.key",), ("signing-2.key",), ("signing.key", "signing-2.key")):
        path = changed.directory / "known.pub"
        shown = [
            scalple("keygen", "signing", "--show", changed.directory / name, "--origin", "sample")
            for name in names
        ]
        path.write_text("".join(one.out for one in shown))
        said = changed.run(
            "verify", "--store", changed.store, "--origin", "sample", "--public-key", path
        )
        assert said.code == 0, said.err


def test_a_missing_period_is_refused_and_a_lost_one_is_told(changed: Store) -> None:
    complete = changed.direct().json()
    kept, changed.former = changed.former, []
    lost = scalple("keygen", "subject", "--show", kept[0]).out.strip()
    try:
        refused = changed.direct()
        assert (refused.code, refused.out) == (4, "")
        assert lost in refused.err
        assert "former_subject_key_files" in refused.err
        partial = changed.direct("--lost-key", lost)
        assert partial.code == 0, partial.err
        document = partial.json()
        assert 0 < len(document["direct"]) < len(complete["direct"])
        assert document["unsearched"][0]["key"] == lost
        assert document["unsearched"][0]["statements"] > 0
        assert f"key {lost} is lost" in partial.err
        page = changed.directory / "page.html"
        said = changed.run(
            "query",
            "--store",
            changed.store,
            "--subject",
            "customer_id=4711",
            "--lost-key",
            lost,
            "--format",
            "html",
            "--output",
            page,
        )
        assert said.code == 0
        assert f"key {lost} is lost" in page.read_text()
        for verb in (("query", "--table", "users", "--disclosure", "controller"), ("coverage",)):
            assert changed.run(*verb, "--store", changed.store).code == 0
    finally:
        changed.former = kept
    assert changed.direct("--lost-key", lost).code == 4
    assert changed.direct("--lost-key", "0" * 32).code == 4


def test_no_key_is_said_or_stored_anywhere(changed: Store) -> None:
    secrets: list[bytes] = []
    for path in changed.directory.glob("*.key"):
        text = path.read_bytes()
        lines = [one for one in text.splitlines() if one and not one.startswith(b"-----")]
        secrets += lines
        if len(lines[0]) == 64 and b"PRIVATE" not in text:
            secrets.append(bytes.fromhex(lines[0].decode()))
        else:
            private = keys.signing_key(changed.directory, path).private.private_bytes_raw()
            secrets += [private, private.hex().encode()]
    assert len(secrets) >= 10
    places = [path.read_bytes() for path in files(changed.store)]
    places += [f"{one.out}{one.err}".encode() for one in changed.said]
    places.append(changed.config().read_bytes())
    for secret in secrets:
        assert not any(secret in place for place in places)


def test_a_store_goes_on_when_its_subject_key_is_lost(tmp_path: Path) -> None:
    one = Store(tmp_path)
    assert one.read(0.05).code == 0
    one.names["subject"].unlink()
    assert one.direct().code == 4
    one.names["subject"] = made(tmp_path, "subject", "new.key")
    said = one.run("rotate-key", "subject", "--store", one.store, "--new-key", one.names["subject"])
    assert said.code == 0, said.err
    assert one.read(0.1).code == 0
    assert one.run("verify", "--store", one.store).code == 0


@pytest.mark.parametrize(
    "command",
    [
        ("verify", "--public-key", "{}"),
        ("verify", "--checkpoint", "{}"),
        ("verify", "--since-checkpoint", "{}"),
        ("consistency", "{}", "--output", "{}.proof"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_key_given_in_place_of_something_public_is_not_printed(
    command: tuple[str, ...], changed: Store, tmp_path: Path
) -> None:
    for kind in ("subject", "signing", "access"):
        key = made(tmp_path, kind, f"{kind}.key")
        secret = key.read_text().strip()
        verb, *rest = (one.format(key) for one in command)
        said = scalple(verb, "--store", changed.store, *rest)
        assert said.code != 0
        assert all(line not in said.out + said.err for line in secret.splitlines() if len(line) > 8)


def test_a_rotation_that_was_killed_at_its_very_end_is_finished_by_giving_it_again(
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    assert scalple("reprocess", "--config", SAMPLE / "config.toml", "--store", store).code == 0
    beside = tmp_path / "store.keys" / "sample.pub"
    before = beside.read_bytes()
    new = made(tmp_path, "signing", "new.key")
    assert scalple("rotate-key", "signing", "--store", store, "--new-key", new).code == 0
    beside.write_bytes(before)  # as a kill before this file leaves it
    assert scalple("verify", "--store", store).code == 7
    said = scalple("rotate-key", "signing", "--store", store, "--new-key", new)
    assert said.code == 0, said.err
    assert scalple("verify", "--store", store).code == 0
