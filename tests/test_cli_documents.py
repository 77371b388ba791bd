"""What the documents promise to programs is what the code does."""

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

from scalple.cli.config import Config, load
from scalple.cli.main import VERBS
from scalple.cli.section import Section
from scalple.correlate.record import AUDIT
from scalple.ingest.identity import parse_events
from scalple.store.verifyreport import Fault
from tests.commandline import scalple
from tests.store.sample import make_store

DOCS = Path(__file__).resolve().parent.parent / "docs"


def keys_of(section: str, page: str = "CLI_JSON.md") -> set[str]:
    """The names in the first column of a section's table."""
    text = (DOCS / page).read_text()
    _, _, rest = text.partition(f"## {section}\n")
    lines = rest.partition("\n#")[0].splitlines()
    cells = [line.split("|")[1] for line in lines if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_the_document_lists_every_column_of_the_record() -> None:
    assert keys_of("ROW") == set(AUDIT.names)


def test_the_document_lists_every_number_of_coverage(tmp_path: Path) -> None:
    sample = DOCS.parent / "sample_logs" / "identity.jsonl"
    store = tmp_path / "store"
    assert scalple("reprocess", "--store", store, "--identity-events", sample).code == 0
    found = scalple("coverage", "--store", store, "--format", "json").json()
    assert keys_of("COVERAGE") | keys_of("DETAIL") == set(found)
    assert found["statements"] == 0
    assert found["attributed_share"] is None


def test_the_document_lists_every_key_of_what_reports_say(tmp_path: Path) -> None:
    config, store = tmp_path / "config.toml", tmp_path / "store"
    sample = DOCS.parent / "sample_logs"
    config.write_text(
        (sample / "config.toml").read_text().replace(' = ["', f' = ["{sample}/', 3)
        + '[[policy]]\nname = "all"\ntables = ["*.*"]\n'
    )
    sources = ("--config", config, "--schema", sample / "schema.sql")
    assert scalple("reprocess", "--store", store, *sources).code == 0
    found = scalple("policy", "--store", store, "--format", "json").json()
    assert keys_of("FOUND") == {
        key for part in ("findings", "actors", "days") for key in found[part][0]
    }
    found = scalple("minimisation", "--store", store, "--format", "json").json()
    assert keys_of("TEMPLATE") == set(found["templates"][0])
    assert keys_of("READER") == set(found["actors"][0])
    snapshot = tmp_path / "snapshot.json"
    text = (DOCS / "POLICIES.md").read_text()
    snapshot.write_text(text.partition("```json\n")[2].partition("```")[0])
    said = scalple("entitlements", "--store", store, "--snapshot", snapshot, "--format", "json")
    assert said.json()["rights"][0]["use"] == "used"
    assert keys_of("RIGHT") == set(said.json()["rights"][0])
    assert keys_of("ROLE") == set(said.json()["roles"][0])


def test_the_document_lists_every_key_of_what_verify_says(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 1)
    found = scalple("verify", "--store", store, "--format", "json").json()
    assert keys_of("REPORT") == set(found)
    assert keys_of("HEAD") == set(found["heads"][0])
    assert keys_of("FAULT") == {one.name for one in fields(Fault)}


def test_the_examples_of_identity_events_validate() -> None:
    text = (DOCS / "IDENTITY_EVENTS.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith('{"v":1,')]
    block = parse_events("".join(f"{line}\n" for line in lines).encode(), 0, "examples")
    assert block.table.num_rows == len(lines) >= 6
    assert block.rejects == []


def test_every_verb_stands_in_the_readme() -> None:
    readme = (DOCS.parent / "README.md").read_text()
    for verb in VERBS:
        assert re.search(rf"(scalple-ingest|make) {verb}\b", readme), verb


def keys_in(model: type[Section] = Config, path: str = "") -> dict[str, dict[str, str]]:
    """Each section of the configuration -> its own keys, by their names in the model."""
    own: dict[str, str] = {}
    below: dict[str, dict[str, str]] = {}
    for name, field in model.model_fields.items():
        types = (field.annotation, *get_args(field.annotation))
        inner = [one for one in types if isinstance(one, type) and issubclass(one, Section)]
        for one in inner:
            below |= keys_in(one, f"{path}.{name}".lstrip("."))
        if not inner:
            own[name] = field.alias or name
    return {path: own} | below


def said_in(section: Section, path: str = "") -> set[tuple[str, str]]:
    """(section, key) of all that a configuration states."""
    said = set()
    for name in section.model_fields_set:
        value = getattr(section, name)
        inner = value if isinstance(value, tuple) else (value,)
        sections = [one for one in inner if isinstance(one, Section)]
        if len(sections) < len(inner):  # some values are written short
            sections = []
        for one in sections:
            said |= said_in(one, f"{path}.{name}".lstrip("."))
        if not sections:
            said.add((path, name))
    return said


def test_the_document_lists_every_key_of_the_configuration() -> None:
    text = (DOCS / "CONFIGURATION.md").read_text()
    for path, own in keys_in().items():
        # The operator names what is in these: each is a section of its own.
        tables = {key for key in own.values() if f"\n## `[{key}]`\n" in text}
        title = f"`[{path}]`" if path else "Above all sections"
        if f"\n## `[[{path}]]`\n" in text:  # there may be several
            title = f"`[[{path}]]`"
        assert keys_of(title, "CONFIGURATION.md") | tables == set(own.values()), title


def test_the_complete_example_of_a_configuration_loads_and_is_complete(tmp_path: Path) -> None:
    text = (DOCS / "CONFIGURATION.md").read_text()
    file = tmp_path / "config.toml"
    file.write_text(text.partition("```toml\n")[2].partition("```\n")[0])
    every = {(path, name) for path, own in keys_in().items() for name in own}
    assert said_in(load(file)) == every
