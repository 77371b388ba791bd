"""The command line and buckets: what a user does, from the first commit to the proof."""

import datetime as dt
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalple.store import keys, source
from scalple.store.bucket import Bucket
from scalple.store.bucketsettings import BucketSettings
from scalple.store.writer import StoreWriter
from tests.commandline import SAMPLE, Said, scalple
from tests.s3server import SECRETS, serving
from tests.store.sample import table

CONFIGURATION = """
[keys]
signing_key_file = "signing.key"
subject_key_file = "subject.key"
access_key_file  = "access.key"
[s3]
endpoint  = "{endpoint}"
cache_dir = "cache"
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server with one bucket."""
    with serving() as url:
        yield url


@pytest.fixture(autouse=True)
def config(endpoint: str, tmp_path: Path) -> Iterator[Path]:
    """The sample's configuration with keys, an endpoint and a cache of its own."""
    for name in ("signing", "access"):
        keys.create_signing_key(tmp_path / f"{name}.key")
    keys.create_subject_key(tmp_path / "subject.key")
    declared = (SAMPLE / "config.toml").read_text().replace(' = ["', f' = ["{SAMPLE}/', 4)
    (tmp_path / "config.toml").write_text(declared + CONFIGURATION.format(endpoint=endpoint))
    yield tmp_path / "config.toml"
    source.unmount()


def bucket(endpoint: str, name: str) -> Bucket:
    """A new bucket."""
    made = Bucket(f"s3://{name}", BucketSettings(endpoint=endpoint))
    made.client.create_bucket(Bucket=name)
    return made


def done(*arguments: str | Path) -> Said:
    """A call that succeeds."""
    said = scalple(*arguments)
    assert said.code == 0, said.err
    return said


def test_a_store_in_a_bucket_from_the_logs_to_the_proof(
    endpoint: str, config: Path, tmp_path: Path
) -> None:
    bucket(endpoint, "audit")
    there = ("--store", "s3://audit/db1", "--config", config)
    log = tmp_path / "postgresql.csv"
    lines = (SAMPLE / "postgresql.csv").read_text().splitlines(keepends=True)
    for part in (400, 800):
        log.write_text("".join(lines[:part]))
        said = done("reprocess", *there, "--postgres-log", log)
        assert "s3://audit/db1: committed" in said.err
    counted = done("sql", *there, "--format", "json", "SELECT count(*) AS n FROM audit").json()
    assert counted[0]["n"] > 500
    refused = scalple("compact", *there)
    assert (refused.code, "s3://audit/db1: a store in a bucket has no index" in refused.err) == (
        4,
        True,
    )
    proof, public = tmp_path / "row.proof", tmp_path / "public"
    done("prove", "sample#500", *there, "--output", proof)
    key = bucket_text(endpoint, "audit", "db1/sample/public-key")
    public.write_text(key)
    done("check-proof", proof, "--public-key", public)
    done("anchor", *there, "--to", "s3://audit/anchors")
    (tmp_path / "cache").rename(tmp_path / "gone")  # nothing but the bucket is left
    anchored = ("--anchors", "s3://audit/anchors", "--public-key", public)
    intact = done("verify", *there, *anchored).out
    assert "sample: continues 1 anchor(s)" in intact
    assert "_access: continues 1 anchor(s), the newest of size 2" in intact


def bucket_text(endpoint: str, name: str, key: str) -> str:
    data = Bucket(f"s3://{name}", BucketSettings(endpoint=endpoint)).get(key)
    assert data is not None
    return data.decode()


def test_a_mirror_answers_what_the_store_answers(
    endpoint: str, config: Path, sample_store: Path, tmp_path: Path
) -> None:
    bucket(endpoint, "copies")
    said = done("mirror", "--store", sample_store, "--to", "s3://copies/db1", "--config", config)
    assert "sample: 3 manifests in s3://copies/db1 (3 new)" in said.out
    question = ("query", "--actor", "employee_id_2291", "--format", "json")
    here = done(*question, "--store", sample_store, "--access-log", tmp_path / "first").json()
    subject = tmp_path / "subject.key"
    subject.write_bytes((sample_store.with_name("store.keys") / "subject.key").read_bytes())
    there = ("--store", "s3://copies/db1", "--config", config)
    refused = scalple(*question, *there)
    assert (refused.code, "--access-log DIR" in refused.err) == (5, True)
    assert done(*question, *there, "--access-log", tmp_path / "second").json() == here
    assert scalple("reprocess", *there).code == 5
    assert "intact: sample" in done("verify", *there).out


def test_keys_are_needed_and_said_which(endpoint: str, config: Path) -> None:
    bucket(endpoint, "keyless")
    text = config.read_text()
    config.write_text(text.replace('signing_key_file = "signing.key"\n', ""))
    said = scalple("reprocess", "--store", "s3://keyless/db1", "--config", config)
    assert (said.code, "has no signing.key beside it" in said.err) == (4, True)
    assert "[keys] signing_key_file" in said.err


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("s3://keyless/none", 4, "s3://keyless/none: no store here"),
        ("s3://no-such-bucket/db1", 4, "no such bucket"),
        ("s3://Bad_Name/db1", 4, "can't be a place in S3"),
        ("s3://bucket/../db1", 4, "can't be a place in S3"),
        ("gs://bucket/db1", 4, "no store can be there"),
    ],
)
def test_places_where_no_store_is(config: Path, url: str, code: int, message: str) -> None:
    said = scalple("coverage", "--store", url, "--config", config)
    assert (said.code, said.out) == (code, "")
    assert message in said.err


def test_without_credentials_it_says_so(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scalple.store import bucket as module

    module._client.cache_clear()
    for name in SECRETS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    said = scalple("coverage", "--store", "s3://keyless/db1", "--config", config)
    module._client.cache_clear()
    assert (said.code, "credentials come from AWS_*" in said.err) == (4, True)


def test_the_probe_says_what_a_bucket_can_do(endpoint: str, config: Path) -> None:
    bucket(endpoint, "probed")
    said = done("probe", "s3://probed/db1", "--config", config)
    assert said.out.splitlines() == [
        "creates an object once (If-None-Match): yes, 1 of 16 won: can be a store",
        "replaces only what was seen (If-Match): yes",
        "keeps versions: no",
        "Object Lock: not told",
        "locks by default: no, or not told",
    ]


def test_who_uses_no_bucket_does_not_wait_for_boto3(sample_store: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from scalple.cli import main; "
        f"sys.argv[1:] = ['verify', '--store', '{sample_store}']; main.main(); "
        "assert not {'boto3', 'botocore'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, capture_output=True)


def test_a_mirror_follows_what_expires_when_it_is_told_to(
    endpoint: str, config: Path, tmp_path: Path
) -> None:
    there = bucket(endpoint, "expiring")
    there.client.put_bucket_versioning(
        Bucket="expiring", VersioningConfiguration={"Status": "Enabled"}
    )
    config.write_text(config.read_text() + '[retention]\nkeep_at_most = "1 year"\n')
    store = tmp_path / "store"
    key = keys.signing_key(store, tmp_path / "signing.key").private
    for at, days in enumerate((500, 3)):
        when = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
        with StoreWriter.open(store, "db1", key, create=True) as writer:
            writer.commit({"audit": table("audit", at, [{"log_time": when}])}, [], {})
    mirror = ("mirror", "--store", store, "--to", "s3://expiring/db1", "--config", config)
    copy = ("--store", "s3://expiring/db1", "--config", config)
    done(*mirror)
    question = ("--format", "json", "SELECT seq FROM audit ORDER BY 1")
    rows = ("sql", *copy, "--access-log", tmp_path / "asked", *question)
    assert [row["seq"] for row in done(*rows).json()] == [0, 1]
    expired = next((store / "db1" / "segments").glob(f"{0:020d}-*")).name
    cached = list((tmp_path / "cache").rglob(expired))
    assert cached

    done("retention", "--store", store, "--config", config)
    assert "still in the bucket: --remove-expired" in done(*mirror).err
    said = done(*rows)
    assert [row["seq"] for row in said.json()] == [1]
    assert "expired, not in this answer: 1 statements of db1" in said.err
    assert not any(path.exists() for path in cached)
    assert "are still in the bucket" in done("verify", *copy).out
    assert "files of expired rows removed" in done(*mirror, "--remove-expired").out
    report = done("verify", *copy).out
    assert "1 rows have expired" in report
    assert "still" not in report
    assert [row["seq"] for row in done(*rows).json()] == [1]
    names = [name for name, _ in there.names("db1/db1/segments/")]
    assert len(names) == 1

    fresh = ("mirror", "--store", store, "--to", "s3://expiring/fresh", "--config", config)
    done(*fresh)
    done("verify", "--store", "s3://expiring/fresh", "--config", config)
    refused = scalple("retention", *copy)
    assert refused.code == 4
    assert "of a store in a bucket nothing expires" in refused.err
