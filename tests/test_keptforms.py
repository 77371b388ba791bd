"""Forms of statements from one run to the next: what is kept says the same as parsing anew."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.cli import formcache
from scalple.cli.formcache import FormCache
from scalple.correlate import statements, templates
from scalple.correlate.enrichment import Enricher
from scalple.correlate.forms import FormReader
from scalple.correlate.keptforms import KeptForms
from scalple.correlate.rules import Rules
from tests.commandline import SAMPLE, rows, scalple
from tests.examples import examples
from tests.test_corpus import CORPUS, ENTRIES, KEY, RULES
from tests.test_enrichment import batch

SCHEMA = (CORPUS / "schema.sql").read_text("utf-8")
QUERIES: list[str | None] = sorted({entry["sql"] for _, entry in ENTRIES})
SKELETONS = sorted({templates.split(query)[1] for query in QUERIES if query})
EVERYTHING = "SELECT * EXCLUDE (source_file) FROM audit ORDER BY seq"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Skeletons that were parsed."""
    found: list[str] = []
    real = statements.analyse

    def analyse(skeleton: str, *rest: Any) -> object:
        found.append(skeleton)
        return real(skeleton, *rest)

    monkeypatch.setattr(statements, "analyse", analyse)
    return found


@settings(max_examples=examples(5), deadline=None)
@given(st.lists(st.sampled_from(QUERIES), min_size=1, max_size=60))
def test_what_is_kept_says_what_parsing_says(queries: list[str | None]) -> None:
    kept = KeptForms()
    table = batch(queries)
    first = Enricher(RULES, SCHEMA, KEY, None, lambda _: kept).enrich(table)
    assert kept.has_news
    again = KeptForms.from_bytes(kept.to_bytes(10_000))
    assert not again.has_news
    second = Enricher(RULES, SCHEMA, KEY, None, lambda _: again).enrich(table)
    assert not again.has_news
    columns = [name for name in first.column_names if name != "subjects"]  # sealed anew each time
    assert first.select(columns).equals(second.select(columns))
    for query in queries:
        assert query and query not in again.to_bytes(10_000).decode()


def test_the_next_run_parses_nothing(tmp_path: Path, parsed: list[str]) -> None:
    first = FormCache(RULES, None, tmp_path)
    reader = FormReader(RULES, SCHEMA, None, first.of)
    found = [reader.read(query) for query in SKELETONS]
    assert len(parsed) > 400
    first.save()
    parsed.clear()
    again = FormReader(RULES, SCHEMA, None, FormCache(RULES, None, tmp_path).of)
    assert [again.read(query) for query in SKELETONS] == found
    assert len(parsed) < 10  # longer than is kept


def test_other_rules_schema_or_functions_find_nothing_kept(
    tmp_path: Path, parsed: list[str]
) -> None:
    query = "select email from users where id = 5"
    first = FormCache(RULES, None, tmp_path)
    FormReader(RULES, SCHEMA, None, first.of).read(query)
    first.save()
    other = Rules(identifiers={"x": ("public.users.id",)})
    for rules, schema, functions in (
        (other, SCHEMA, None),
        (RULES, SCHEMA + "CREATE TABLE more (id int);", None),
        (RULES, None, None),
        (RULES, SCHEMA, "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS '';"),
    ):
        parsed.clear()
        cache = FormCache(rules, functions, tmp_path)
        FormReader(rules, schema, functions, cache.of).read(query)
        assert len(parsed) == 1


def test_another_program_finds_nothing_kept(
    tmp_path: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "select email from users where id = 5"
    first = FormCache(RULES, None, tmp_path)
    FormReader(RULES, SCHEMA, None, first.of).read(query)
    first.save()
    parsed.clear()
    monkeypatch.setattr(formcache, "version", lambda _: "another")
    FormReader(RULES, SCHEMA, None, FormCache(RULES, None, tmp_path).of).read(query)
    assert len(parsed) == 1


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"a":[1]}', b"[" * 100_000, b"\xff"])
def test_a_damaged_file_counts_as_none(tmp_path: Path, data: bytes) -> None:
    query = "select email from users where id = 5"
    first = FormCache(RULES, None, tmp_path)
    expected = FormReader(RULES, SCHEMA, None, first.of).read(query)
    first.save()
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(data)
    again = FormCache(RULES, None, tmp_path)
    assert FormReader(RULES, SCHEMA, None, again.of).read(query) == expected
    again.save()
    assert KeptForms.from_bytes(path.read_bytes()).known


def test_a_kept_number_that_was_changed_counts_as_none(tmp_path: Path) -> None:
    query = templates.split("select email from users where id = 5")[1]
    first = FormCache(RULES, None, tmp_path)
    expected = FormReader(RULES, SCHEMA, None, first.of).read(query)
    first.save()
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(path.read_bytes().replace(b"[0]", b"[9]"))
    again = FormCache(RULES, None, tmp_path)
    assert FormReader(RULES, SCHEMA, None, again.of).read(query) == expected


def test_files_and_forms_are_bounded(tmp_path: Path) -> None:
    for at in range(formcache.FILES_MAX + 3):
        rules = Rules(identifiers={f"x{at}": ("public.users.id",)})
        cache = FormCache(rules, None, tmp_path)
        FormReader(rules, SCHEMA, None, cache.of).read("select 1")
        cache.save()
    assert len(list(tmp_path.glob("*"))) == formcache.FILES_MAX
    kept = KeptForms()
    reader = FormReader(RULES, SCHEMA, None, lambda _: kept)
    for at in range(50):
        reader.read(f"select {'a' * (at + 1)} from users")
    newest = KeptForms.from_bytes(kept.to_bytes(10))
    assert len(newest.known) == 10
    assert newest.find(f"select {'a' * 50} from users")


def test_a_form_that_was_kept_changes_with_the_schema(tmp_path: Path) -> None:
    """It rests on what it rested on when it was parsed."""
    query = "select * from users"
    first = FormCache(RULES, None, tmp_path)
    FormReader(RULES, SCHEMA, None, first.of).read(query)
    first.save()
    reader = FormReader(RULES, SCHEMA, None, FormCache(RULES, None, tmp_path).of)
    before = reader.read(query)
    changed = reader._catalog.copy()
    changed.own("public.users").columns["added"] = None
    changed.stamps["users"] = 1
    after = reader.read(query, changed)
    assert after.columns is not None and before.columns is not None
    assert set(after.columns) - set(before.columns) == {"public.users.added"}


def test_a_run_that_finds_everything_kept_says_the_same(
    tmp_path: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = SAMPLE / "config.toml"
    said: list[list[dict[str, Any]]] = []
    for name in ("first", "second"):
        parsed.clear()
        store = tmp_path / name
        if said:  # the same keys, so that tokens are the same
            shutil.copytree(tmp_path / "first.keys", tmp_path / "second.keys")
        done = scalple("reprocess", "--config", config, "--store", store)
        assert done.code == 0, done.err
        found = rows(store, EVERYTHING)
        for row in found:
            for one in row["subjects"] or ():
                one.pop("sealed")
        said.append(found)
        if name == "first":
            assert parsed
    assert not parsed
    assert said[0] == said[1]
