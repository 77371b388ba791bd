"""Rows gain what their statement touched and whose data it was; personal values are masked.

In: batches of pgAudit rows. Out: the same rows, in order, as the enrichment's columns of the
record. Each distinct text is cut once, each form of statement parsed once, each distinct value
masked, named and sealed once; only arithmetic runs per row. Keeps forms and values between
batches, bounded. Touches no file; a statement that can't be read never fails a batch: all its
literals and parameters are redacted.
"""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scalple.correlate import masking, parameters, templates
from scalple.correlate.calledby import NamesReader
from scalple.correlate.catalog import Catalog, relation_name
from scalple.correlate.form import Form
from scalple.correlate.forms import FormReader, KeptUnder
from scalple.correlate.record import AUDIT
from scalple.correlate.rules import Rules
from scalple.correlate.settingmasks import personal_settings
from scalple.correlate.sharing import joined, shared
from scalple.correlate.statementmasks import LiteralMasks, ParameterMasks
from scalple.correlate.subjects import Sealer
from scalple.correlate.undeclared import BY_NAME, NUMBER, FieldsOfRows, Seen, Sightings
from scalple.correlate.values import Naming, Treatment, expand
from scalple.correlate.versions import Versions

COLUMNS = (
    "query",
    "parameters",
    "query_fingerprint",
    "affected_tables",
    "columns_accessed",
    "columns_basis",
    "access_shape",
    "masked_fields",
    "subjects",
)
_RELATIONS = {"TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "TOAST TABLE"}

Ints = NDArray[np.int64]

# Of a masked text: what stays whatever it says (literals, which are masked, the name of a table or
# function), then names, bare and quoted.
_WORDS = re.compile(
    r"""(?P<kept> '(?>[^']|'')*+(?:'|\Z) | \$[0-9]+
          | (?<!\bdistinct\s)\b(?:from|join|into|update|table)\s++(?>(?:only|if|not|exists)\s++)*+
            (?:(?:"[^"]*+"|[^\W\d][\w$]*+)\s*+\.\s*+){0,2}(?:"[^"]*+"|[^\W\d][\w$]*+)
          | [^\W\d][\w$]*+(?=\() )
      | (?P<name> [^\W\d][\w$]*+ | "[^"]*+(?:"|\Z) | [0-9][\w$]*+ )""",
    re.IGNORECASE | re.VERBOSE,
)


class Enricher:
    """Enriches batches under one set of rules, one schema and one subject key."""

    def __init__(
        self,
        rules: Rules,
        schema_sql: str | None,
        subject_key: bytes,
        functions_sql: str | None = None,
        kept: KeptUnder = lambda _catalog: None,
    ) -> None:
        self._forms = FormReader(rules, schema_sql, functions_sql, kept)
        self._sealer = Sealer(subject_key)
        self._sightings = Sightings()
        self._names = NamesReader(rules)

    def called(self, versions: Versions) -> pa.DictionaryArray | None:
        """Per row what declared tables and columns had been called before; None where nothing had."""
        return self._names.column(versions)

    def enrich(self, batch: pa.Table, versions: Versions | None = None) -> pa.Table:
        """Same number of rows, same order.

        Args:
            batch: the statements.
            versions: the schema that each row was run under; without them, that of all.
        """
        codes, texts = _coded(batch["query"])
        lexed = templates.lex(texts)
        catalog = versions.single if versions else None
        if versions is None or catalog is not None:
            forms = [self._forms.read(skeleton, catalog) for skeleton in lexed.skeletons]
            return self._enriched(batch, codes, texts, lexed, forms, versions)
        return self._over_time(batch, codes, texts, lexed, versions)

    def _over_time(
        self,
        batch: pa.Table,
        codes: Ints,
        texts: pa.Array,
        lexed: templates.Lexed,
        versions: Versions,
    ) -> pa.Table:
        """Rows of one form of statement that are read alike are treated together, in rounds: as many
        as the form that has the most readings has of them."""
        form_of = lexed.form[lexed.position] if len(texts) else np.zeros(0, np.int64)
        row_form = np.where(codes >= 0, np.append(form_of, -1)[codes], -1)
        count = len(versions.catalogs)
        pairs, pair_of = np.unique((row_form + 1) * count + versions.codes, return_inverse=True)
        readings: list[list[Form]] = [[] for _ in lexed.skeletons]
        rounds = np.zeros(len(pairs), np.int64)
        for at, pair in enumerate(pairs.tolist()):
            skeleton, version = divmod(pair, count)
            if skeleton:
                known = readings[skeleton - 1]
                form = self._forms.read(lexed.skeletons[skeleton - 1], versions.catalogs[version])
                rounds[at] = next((i for i, one in enumerate(known) if one is form), len(known))
                if rounds[at] == len(known):
                    known.append(form)
        parts, order = [], []
        for number in range(int(rounds.max(initial=0)) + 1):
            rows = np.flatnonzero(rounds[pair_of] == number)
            part, mine = batch, texts
            if number:  # few rows: only their texts
                used, own = np.unique(codes[rows], return_inverse=True)
                mine = texts.take(pa.array(used))
            if len(rows) < batch.num_rows:
                part = batch.take(pa.array(rows))
            cut = templates.lex(mine) if number else lexed
            by_skeleton = dict(zip(lexed.skeletons, readings, strict=True))
            forms = [
                by_skeleton[one][min(number, len(by_skeleton[one]) - 1)] for one in cut.skeletons
            ]
            coded = own if number else codes[rows]
            parts.append(self._enriched(part, coded, mine, cut, forms, versions.take(rows)))
            order.append(rows)
        place = pa.array(np.argsort(np.concatenate(order), kind="stable"))
        columns = [joined([part[name] for part in parts]).take(place) for name in COLUMNS]
        return pa.Table.from_arrays(columns, names=list(COLUMNS))

    def _enriched(
        self,
        batch: pa.Table,
        codes: Ints,
        texts: pa.Array,
        lexed: templates.Lexed,
        forms: list[Form],
        versions: Versions | None,
    ) -> pa.Table:
        logged = codes >= 0
        row_text = np.where(logged, lexed.position[codes] if len(texts) else 0, -1)
        row_form = np.where(logged, lexed.form[row_text] if len(texts) else 0, -1)
        naming = Naming(self._sealer)
        treatment = Treatment(self._sealer, naming)
        lists = parameters.split(_plain(batch["parameters"]))
        settings = personal_settings(lexed, forms, self._forms.is_personal_setting)
        bound_to = [(np.flatnonzero(np.isin(row_text, t)), n) for t, n in settings.parameters]
        values = ParameterMasks(treatment, lists, row_form, forms, bound_to)
        literals = LiteralMasks(treatment, lexed, forms, settings)
        literals.hide_in_comments(values.replaced, row_text)
        in_literals = expand(literals.subjects, row_text)
        found = naming.lists([in_literals, values.subjects], batch.num_rows)
        query = shared(row_text, literals.texts())
        bound = values.lists()
        fields = FieldsOfRows(batch.num_rows)
        for seen in literals.seen:
            self._note(seen, np.flatnonzero(np.isin(row_text, seen.owners)), fields)
        for seen in values.seen:
            self._note(seen, seen.owners, fields)
        self._note_names(row_form, forms)
        described = self._describe(batch, row_form, forms, fields, versions)
        return pa.Table.from_arrays([query, bound, *described, found], names=list(COLUMNS))

    def _note(self, seen: Seen, rows: Ints, fields: FieldsOfRows) -> None:
        if seen.kind != NUMBER:
            fields.add(seen.column, rows)
        self._sightings.note(seen.column, seen.kind, len(rows))

    def _note_names(self, row_form: Ints, forms: list[Form]) -> None:
        if any(form.suspected for form in forms):
            rows = np.bincount(row_form + 1, minlength=len(forms) + 1)
            for form, count in zip(forms, rows[1:].tolist(), strict=True):
                for column in form.suspected:
                    self._sightings.note(column, BY_NAME, count)

    def take_sightings(self) -> Sightings:
        """Undeclared columns that the batches since the last call have shown."""
        taken, self._sightings = self._sightings, Sightings()
        return taken

    def without_strange_names(self, masked: str) -> str:
        """A masked text that the server didn't understand, without the words nobody knows.

        In such a text a value may stand where a name is expected: `name = Miller`.
        """
        return _WORDS.sub(self._veil, masked)

    def _veil(self, word: re.Match[str]) -> str:
        if word["kept"]:
            return word[0]
        known = word["name"] and self._forms.knows(word["name"])
        return word[0] if known else masking.REDACTED

    def _describe(
        self,
        batch: pa.Table,
        row_form: Ints,
        forms: list[Form],
        fields: FieldsOfRows,
        versions: Versions | None,
    ) -> list[pa.Array]:
        """What depends on the form, on the object that pgAudit names, and on the schema."""
        types, type_names = _coded(batch["object_type"])
        objects, object_names = _coded(batch["object_name"])
        count_types, count_objects = len(type_names) + 1, len(object_names) + 1
        key = ((row_form + 1) * count_types + types + 1) * count_objects + objects + 1
        count_fields = len(fields.columns)
        if count_fields > 1:
            key = key * count_fields + fields.codes
        catalogs: list[Catalog | None] = [*versions.catalogs] if versions else [None]
        if versions and len(catalogs) > 1:
            key = key * len(catalogs) + versions.codes
        coded = pa.array(key).dictionary_encode()
        rows = []
        for distinct in coded.dictionary.to_pylist():
            rest, version = divmod(distinct, len(catalogs))
            rest, shown = divmod(rest, count_fields)
            rest, named = divmod(rest, count_objects)
            form, kind = divmod(rest, count_types)
            rows.append(
                self._description(
                    forms[form - 1] if form else None,
                    type_names[kind - 1].as_py() if kind else None,
                    object_names[named - 1].as_py() if named else None,
                    fields.columns[shown],
                    catalogs[version],
                )
            )
        columns = list(zip(*rows, strict=True)) or [()] * 6
        types_out = [AUDIT.field(name).type for name in COLUMNS[2:8]]
        indices = coded.indices.to_numpy()
        return [
            shared(indices, pa.array(list(values), kind))
            for values, kind in zip(columns, types_out, strict=True)
        ]

    def _description(
        self,
        form: Form | None,
        object_type: str | None,
        object_name: str | None,
        shown: tuple[str, ...],
        catalog: Catalog | None,
    ) -> tuple[Any, ...]:
        table = relation_name(object_name) if object_type in _RELATIONS else None
        if table and "." not in (object_name or ""):
            table = self._forms.table(table.rpartition(".")[2], catalog)
        whole = self._forms.whole(table, catalog) if table else None
        audited = [name for name in (table, whole) if name]
        if form is None or form.columns is None:
            basis = "object-audit" if table else "unknown"
            mark = form.fingerprint if form else None
            return (mark, list(dict.fromkeys(audited)) or None, None, basis, None, None)
        basis, shape = form.basis, form.shape
        if whole and table not in form.tables and whole not in form.tables:
            # The text doesn't say what is read of it,
            basis = "unknown" if basis == "unknown" else "object-audit"
            # nor how far that is narrowed, which matters where it is about persons.
            shape = None if self._forms.declares(whole, catalog) else shape
        tables = dict.fromkeys([*form.tables, *audited])
        return (
            form.fingerprint,
            list(tables),
            form.columns,
            basis,
            shape,
            tuple(dict.fromkeys([*(form.masked_fields or ()), *shown])),
        )


def _coded(column: pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    """Codes of a text column, -1 for NULL, and the distinct texts."""
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
        one = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        one = one if isinstance(one, pa.Array) else pa.concat_arrays(one.chunks)
        if one.dictionary.null_count or len(one.dictionary.unique()) != len(one.dictionary):
            one = one.dictionary_decode()
    else:
        one = _plain(column)
    if not pa.types.is_dictionary(one.type):
        one = one.cast(pa.string()).dictionary_encode()
    codes = pc.fill_null(one.indices, -1).cast(pa.int64())
    return codes.to_numpy(zero_copy_only=False), one.dictionary.cast(pa.string())


def _plain(column: pa.ChunkedArray) -> pa.Array:
    one = column.cast(pa.string()).combine_chunks()
    return pa.concat_arrays(one.chunks) if isinstance(one, pa.ChunkedArray) else one
