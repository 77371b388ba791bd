"""`detect`: which undeclared columns seem to hold personal data, as entries for the configuration."""

import sys
from pathlib import Path

from scalple.cli import declarations, render
from scalple.cli.asking import carried
from scalple.cli.declarations import SIGHTINGS
from scalple.cli.options import (
    command,
    config_option,
    configured,
    format_option,
    store_option,
    store_path,
)
from scalple.cli.schemarecord import recorded_schema
from scalple.correlate.catalog import read_schema
from scalple.correlate.proposals import Proposal, as_toml, propose
from scalple.correlate.rules import Rules
from scalple.correlate.undeclared import Sightings
from scalple.ingest.errors import VerificationError
from scalple.store.reader import StoreReader
from scalple.store.rownames import RowNames

NOTHING = "no undeclared column seems to hold personal data"


@command("detect")
@store_option
@format_option("table", "json", "toml")
@config_option
def detect(store_dir: str | None, form: str, config_path: Path | None) -> None:
    """Propose what to declare: columns that seem to hold personal data and aren't declared.

    By the columns' names in statements and in the recorded schema, and by what was recognised among
    the values that belong to them (e-mail addresses, IBANs, card and telephone numbers). With
    --config, what the file declares counts instead of what the store recorded.

    \b
    Example:
      scalple-ingest detect --store ./store --format toml
    """
    config = configured(config_path)
    reader = StoreReader.open(store_path(store_dir, config))
    given = config.rules() if config_path is not None else None
    found: dict[str, Proposal] = {}
    rules = Rules()
    names = RowNames(reader.audit_commits())
    for origin in reader.origins:
        rules = given or declarations.recorded(reader, origin)
        found |= {one.column: one for one in _proposals(reader, origin, rules, names)}
    proposals = [found[column] for column in sorted(found)]
    if form == "toml":
        sys.stdout.write(as_toml(proposals, rules) if proposals else f"# {NOTHING}\n")
    elif form == "json":
        render.write_json({"proposals": [_item(one) for one in proposals]}, sys.stdout)
    else:
        rows = [{**_item(one), "evidence": one.evidence} for one in proposals]
        render.write_table(rows, ["column", "kind", "rule", "evidence"], sys.stdout, empty=NOTHING)


def _proposals(reader: StoreReader, origin: str, rules: Rules, names: RowNames) -> list[Proposal]:
    seen: Sightings = sightings(reader, origin)
    schema = read_schema(recorded_schema(reader, origin))
    in_force = carried(rules, names.lineages_of(origin)).values()
    columns = {c for one in in_force for c in (*one.personal, *one.names, *one.harmless)}
    return propose(seen, rules, schema, columns)


def _item(one: Proposal) -> dict[str, object]:
    return {
        "column": one.column,
        "kind": one.kind,
        "rule": one.rule,
        "identifier": one.identifier,
        "by_name": one.by_name,
        "rows": one.rows,
        "values": dict(one.values),
    }


def sightings(reader: StoreReader, origin: str) -> Sightings:
    """All sightings of an origin.

    Raises:
        VerificationError: an object holds something else.
    """
    found = Sightings()
    for manifest in reader.chain(origin).manifests:
        if SIGHTINGS in manifest.objects:
            try:
                found.add(Sightings.from_bytes(reader.objects(manifest.objects[SIGHTINGS])))
            except (ValueError, TypeError, AttributeError) as error:
                raise VerificationError(f"recorded sightings can't be read: {error}") from error
    return found
