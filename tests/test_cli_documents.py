"""What the documents promise to programs is what the code does."""

import re
from pathlib import Path

from scalple.cli.main import VERBS
from scalple.correlate.record import AUDIT
from scalple.ingest.identity import parse_events
from tests.commandline import scalple

DOCS = Path(__file__).resolve().parent.parent / "docs"


def keys_of(section: str) -> set[str]:
    """The names in the first column of a section's table."""
    text = (DOCS / "CLI_JSON.md").read_text()
    _, _, rest = text.partition(f"### {section}\n")
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
    assert keys_of("COVERAGE") == set(found)
    assert found["statements"] == 0
    assert found["attributed_share"] is None


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
