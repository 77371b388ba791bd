"""Identity variables that leaked: set in one client's run, still in force in another's.

Enters: records with their runs, and the texts of those that may set an identity variable. Leaves: the
records that ran while the session still had the value that another client had set. PgBouncer resets
nothing in transaction pooling, so a plain `SET` stays on the backend, and whoever comes next is taken
for somebody else by whatever reads it. A finding, never an attribution.

Without names that tell clients apart there are no runs to compare, and nothing is found. A setting
that its transaction took back counts as set.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from scalple.correlate.logbatch import Bools, Ints, LogBatch, codes_of
from scalple.correlate.runs import Runs
from scalple.ingest.variables import Variables

_NOTHING, _SET, _RESET = 0, 1, 2


@dataclass(slots=True)
class Staleness:
    """Remembers, per open session, in whose run a variable was set.

    Args:
        variables: the identity variables.
    """

    variables: Variables
    _holder: dict[int, int] = field(default_factory=dict)

    def find(
        self,
        batch: LogBatch,
        changes: Ints,
        texts: pa.DictionaryArray,
        session_of: Ints,
        runs: Runs,
        whose: Ints,
    ) -> Bools:
        """Which pgAudit records ran under another client's value.

        Args:
            batch: the records.
            changes, texts: as `labels.texts_of_settings` found them.
            session_of: a code per session, for each record.
            runs: the run of each record.
            whose: per label the client that it stands for: its connection, or else the name itself.
        """
        rows = batch.audit_rows
        stale = np.zeros(len(rows), bool)
        found = np.array([self._effect(one) for one in texts.dictionary.to_pylist()], np.int64)
        everywhere = np.zeros(batch.log.num_rows, np.int64)
        if len(changes):
            everywhere[changes] = found[codes_of(texts)]
        effect = everywhere[rows]
        if not effect.any() and not self._holder:
            return stale
        label = runs.label[rows]
        client = np.where(label >= 0, whose[np.maximum(label, 0)], -1)
        session = session_of[rows]
        touched = np.unique(session[effect != _NOTHING])
        here = np.isin(session, np.concatenate([touched, np.array(list(self._holder), np.int64)]))
        for code in np.unique(session[here]).tolist():
            at = np.flatnonzero(session == code)
            stale[at] = self._session(code, effect[at], client[at])
        return stale & ~runs.replay[rows]

    def _session(self, code: int, effect: Ints, client: Ints) -> Bools:
        """One session's records, in order."""
        n = len(effect)
        acts = np.where(effect != _NOTHING, np.arange(n), -1)
        last = np.maximum.accumulate(np.concatenate([[-1], acts]))
        held = np.where(effect == _SET, client, -1)
        before = last[:-1]
        holder = np.where(before >= 0, held[np.maximum(before, 0)], self._holder.get(code, -1))
        if last[-1] >= 0:
            self._holder.pop(code, None)
            if held[last[-1]] >= 0:
                self._holder[code] = int(held[last[-1]])
        # Whoever sets it anew is free of the old value.
        return np.asarray((holder >= 0) & (client >= 0) & (client != holder) & (effect == _NOTHING))

    def forget(self, session_of: Ints, ended: Bools) -> None:
        """Sessions that are over."""
        for code in np.unique(session_of[ended]).tolist():
            self._holder.pop(code, None)

    def _effect(self, text: str | None) -> int:
        """What a text does to the variables, for the session."""
        effect = _NOTHING
        if text is not None:
            for setting in self.variables.read(text.encode("utf-8", "surrogatepass")).settings:
                if setting.name is None and setting.local is False:
                    effect = _RESET if setting.value is None else _SET
        return effect


def whose_label(connections: Ints) -> Ints:
    """Per label a number of the client that it stands for; labels of one connection have one."""
    names = np.arange(len(connections))
    return np.where(connections >= 0, len(connections) + connections, names)
