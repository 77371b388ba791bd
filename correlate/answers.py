"""Decisions -> the attribution columns of the record: names, evidence ids, candidates, findings.

Enters: what was decided for each statement, and by whom it is named. Leaves: the columns of AUDIT
that attribution owns. Where a statement has candidates, this is where they are listed; where the
list is empty, the grade falls to `unattributed`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate import attribution as rules_of
from scalple.correlate.attribution import Attribution, Known
from scalple.correlate.candidates import Candidates
from scalple.correlate.claimants import Claimants
from scalple.correlate.claims import Claimed
from scalple.correlate.evidence import Evidence
from scalple.correlate.linked import Links
from scalple.correlate.logbatch import Bools, Ints, LogBatch, dictionary_encoded, words
from scalple.correlate.record import TEXTS
from scalple.correlate.rules import Rules
from scalple.correlate.runs import Runs
from scalple.correlate.served import Served, evidence_id
from scalple.correlate.sessionbook import SessionBook
from scalple.correlate.sharing import shared
from scalple.ingest.records import TEXT

ROLLED_BACK = "rolled-back"
"""Finding: the statement's transaction was taken back."""


class Answers:
    """Writes decisions as columns.

    Args:
        origin: the log's name, which evidence ids begin with.
        rules: e-mails and roles, as the operator declared them.
        evidence: everything known about connections.
        served: the clients that decisions point to.
        sessions: the sessions that decisions point to.
        claimants: those whom clients name.
    """

    def __init__(
        self,
        origin: str,
        rules: Rules,
        evidence: Evidence,
        served: Served,
        sessions: SessionBook,
        claimants: Claimants,
    ) -> None:
        self._origin = origin
        self._rules = rules
        self._evidence = evidence
        self._served = served
        self._sessions = sessions
        self._claimants = claimants
        self._candidates = Candidates(evidence)

    def columns(
        self,
        batch: LogBatch,
        session_of: Ints,
        known: Known,
        client: Ints,
        decided: Attribution,
        runs: Runs,
        claimed: Claimed,
        links: Links,
        rolled_back: Bools,
    ) -> pa.Table:
        n = len(client)
        named = np.where(decided.by_link, known.linked, client)
        by_client = decided.by_client | decided.by_link
        chosen = pa.array(named, pa.int64(), mask=~by_client)
        texts = {name: pc.take(column, chosen) for name, column in self._served.texts.items()}
        peer_port = pc.take(self._served.peer_port, chosen)
        ids, cited = self._served.evidence, np.where(by_client, named, -1)
        candidates = pa.nulls(n, TEXTS)
        if decided.by_session.any():
            texts, ids = self._add_sessions(batch, session_of, decided, texts, cited)
        if decided.by_claim.any():
            self._add_claims(decided, claimed, texts)
        if (decided.grade == rules_of.CANDIDATES).any():
            candidates = self._name_candidates(batch, session_of, known, client, decided, claimed)
        if decided.by_link.any():
            ids, cited = self._add_links(decided, links, ids, cited)
        texts["email"] = self._emails(texts["actor"], texts["email"])
        findings = self._findings(batch, known, decided, runs, claimed, rolled_back)
        return pa.table(
            {
                "session_user_id": texts["actor"],
                "session_email": texts["email"],
                "actor_kind": texts["actor_kind"],
                "on_behalf_of": texts["on_behalf_of"],
                "peer_addr": texts["peer_addr"],
                "peer_port": peer_port,
                "session_authn": texts["authn"],
                "attribution_grade": words(decided.grade, rules_of.GRADES),
                "attribution_method": words(decided.method, rules_of.METHODS),
                "attribution_reason": words(decided.reason, rules_of.REASONS),
                "attribution_evidence": shared(cited, ids),
                "attribution_candidates": candidates,
                "findings": findings,
            }
        )

    def _add_sessions(
        self,
        batch: LogBatch,
        session_of: Ints,
        decided: Attribution,
        texts: dict[str, pa.Array],
        cited: Ints,
    ) -> tuple[dict[str, pa.Array], pa.Array]:
        """Texts and evidence ids with the sessions' own added; `cited` then points at them."""
        codes, position = np.unique(session_of[batch.audit_rows], return_inverse=True)
        sessions = [self._sessions.open[int(code)] for code in codes]
        index = pa.array(position, pa.int64(), mask=~decided.by_session)

        def spread(values: list[str | None]) -> pa.Array:
            return pc.take(pa.array(values, TEXT), index)

        def merged(name: str, values: list[str | None]) -> pa.Array:
            column = pc.coalesce(texts[name].cast(TEXT), spread(values))
            return column.dictionary_encode()

        texts["actor"] = merged("actor", [one.actor for one in sessions])
        texts["authn"] = merged("authn", [one.authn for one in sessions])
        ids = [
            None if one.evidence_seq is None else [evidence_id(self._origin, one.evidence_seq)]
            for one in sessions
        ]
        by_session = decided.by_session
        cited[by_session] = len(self._served.evidence) + position[by_session]
        return texts, pa.concat_arrays([self._served.evidence, pa.array(ids, TEXTS)])

    def _add_links(
        self, decided: Attribution, links: Links, ids: pa.Array, cited: Ints
    ) -> tuple[pa.Array, Ints]:
        """Evidence ids with the pooler's pairing events added."""
        rows = np.flatnonzero(decided.by_link)
        pairs = np.stack([cited[rows], links.seq[rows]])
        distinct, back = np.unique(pairs, axis=1, return_inverse=True)
        known = ids.take(pa.array(distinct[0])).to_pylist()
        lists = [
            [*(one or ()), evidence_id(self._origin, seq)]
            for one, seq in zip(known, distinct[1].tolist(), strict=True)
        ]
        cited[rows] = len(ids) + back
        return pa.concat_arrays([ids, pa.array(lists, TEXTS)]), cited

    def _add_claims(
        self, decided: Attribution, claimed: Claimed, texts: dict[str, pa.Array]
    ) -> None:
        """Fill in those whom nothing but the client's own words name."""
        index = pa.array(claimed.who, pa.int64(), mask=~decided.by_claim)
        for name, values in (
            ("actor", self._claimants.actors()),
            ("email", self._claimants.emails()),
        ):
            column = pc.coalesce(texts[name].cast(TEXT), pc.take(values, index))
            texts[name] = column.dictionary_encode()
        asserted = words(np.where(decided.by_claim, 0, -1), ("asserted",)).cast(TEXT)
        texts["authn"] = pc.coalesce(texts["authn"].cast(TEXT), asserted).dictionary_encode()

    def _emails(self, actors: pa.Array, emails: pa.Array) -> pa.Array:
        """An e-mail the events didn't give, from the operator's map."""
        declared = self._rules.actors.emails
        if not declared:
            return emails
        encoded = dictionary_encoded(actors)
        found = pa.array([declared.get(one) for one in encoded.dictionary.to_pylist()], TEXT)
        return pc.coalesce(emails.cast(TEXT), pc.take(found, encoded.indices)).dictionary_encode()

    def _name_candidates(
        self,
        batch: LogBatch,
        session_of: Ints,
        known: Known,
        client: Ints,
        decided: Attribution,
        claimed: Claimed,
    ) -> pa.Array:
        """Fill in who it may have been; where nobody is known, the grade falls."""
        n = len(client)
        lists: list[list[str] | None] = [None]
        which = np.zeros(n, np.int64)
        undecided = (decided.grade == rules_of.CANDIDATES) & ~decided.conflict & ~decided.disputed
        late = np.flatnonzero(undecided & (decided.reason == rules_of.NOT_ALIVE) & (client >= 0))
        times, ends = (one[batch.audit_rows] for one in (batch.time_us, batch.time_end_us))
        for pool in np.unique(known.pool[undecided]).tolist():
            here = np.flatnonzero(undecided & (known.pool == pool))
            spans = np.stack([times[here], ends[here]])
            moments, back = np.unique(spans, axis=1, return_inverse=True)
            answers = self._candidates.at(pool, *moments) if pool >= 0 else None
            if answers is None:
                decided.grade[here] = rules_of.UNATTRIBUTED
                continue
            offset = len(lists)
            lists += [list(one.actors) or None for one in answers]
            nobody = np.array([one.distinct == 0 for one in answers], bool)[back]
            many = np.array([one.distinct > 0 and not one.actors for one in answers], bool)[back]
            which[here] = offset + back
            gone = here[nobody]
            decided.grade[gone] = rules_of.UNATTRIBUTED
            decided.method[gone] = rules_of.NONE
            decided.reason[here[many]] = rules_of.TOO_MANY
            decided.reason[gone] = rules_of.NO_CLIENT
            unidentified = np.array([one.unidentified > 0 for one in answers], bool)[back]
            plain = np.isin(decided.reason[here], (rules_of.NO_NAME, rules_of.NO_ENDPOINT))
            decided.reason[here[unidentified & plain & ~nobody]] = rules_of.UNIDENTIFIED_ALIVE
        self._add_the_gone(client, late, decided, which, lists)
        for row in np.flatnonzero(decided.conflict).tolist():
            session = self._sessions.open[int(session_of[batch.audit_rows[row]])]
            people = {session.actor}
            if known.linked[row] >= 0:
                people.add(self._evidence.client_actor[int(known.linked[row])])
            if client[row] >= 0:
                people.add(self._evidence.client_actor[int(client[row])])
                people.add(self._rules.actors.roles.get(session.role or ""))
            named = sorted(one for one in people if one is not None)
            if not named:
                decided.grade[row] = rules_of.UNATTRIBUTED
                continue
            which[row] = len(lists)
            lists.append(named)
        self._add_the_disputed(client, decided, claimed, which, lists)
        return shared(which, pa.array(lists, TEXTS))

    def _add_the_disputed(
        self,
        client: Ints,
        decided: Attribution,
        claimed: Claimed,
        which: Ints,
        lists: list[list[str] | None],
    ) -> None:
        """Where claims disagree, those whom they name."""
        rows = np.flatnonzero(decided.disputed)
        if not len(rows):
            return
        actors = self._claimants.actors().to_pylist()
        triples = np.stack([claimed.who[rows], claimed.others[rows], client[rows]])
        distinct, back = np.unique(triples, axis=1, return_inverse=True)
        which[rows] = len(lists) + back
        for who, other, one in distinct.T.tolist():
            people = {actors[code] for code in (who, other) if code >= 0}
            people |= {self._evidence.client_actor[one]} if one >= 0 else set()
            lists.append(sorted(name for name in people if name is not None) or None)

    def _add_the_gone(
        self,
        client: Ints,
        late: Ints,
        decided: Attribution,
        which: Ints,
        lists: list[list[str] | None],
    ) -> None:
        """A run whose client has just gone: it is the first that may have been."""
        merged: dict[tuple[int, str], int] = {}
        for row in late.tolist():
            actor = self._evidence.client_actor[int(client[row])]
            if actor is None or decided.reason[row] == rules_of.TOO_MANY:
                continue
            key = (int(which[row]), actor)
            if key not in merged:
                merged[key] = len(lists)
                lists.append(sorted({actor, *(lists[key[0]] or ())}))
            which[row] = merged[key]
            decided.grade[row] = rules_of.CANDIDATES
            decided.method[row] = rules_of.ALIVE
            decided.reason[row] = rules_of.NOT_ALIVE

    def _findings(
        self,
        batch: LogBatch,
        known: Known,
        decided: Attribution,
        runs: Runs,
        claimed: Claimed,
        rolled_back: Bools,
    ) -> pa.Array:
        on_tagged = np.isin(known.pool, self._evidence.tagged_pools)
        drift = runs.drift[batch.audit_rows] & (runs.label[batch.audit_rows] >= 0)
        marks = {
            "identity-conflict": decided.conflict,
            "drift": drift,
            "forged-line": batch.forged & ~batch.ambiguous,
            "ambiguous-line": batch.ambiguous,
            "origin-unproven": batch.unproven,
            "nonstandard-line": batch.nonstandard,
            "stale-identity": claimed.stale_setting
            & (known.pool >= 0)
            & (known.pooler_method == rules_of.NONE),
            "stale-comment": claimed.stale_comment,
            "claim-differs": (decided.grade <= rules_of.CONFIRMED)
            & (known.claim != rules_of.NONE)
            & ~known.claim_agrees,
            "unannounced-client": on_tagged & (known.pool_open == rules_of.UNANNOUNCED_CLIENT),
            "drifted-client": on_tagged & (known.pool_open == rules_of.DRIFTED_CLIENT),
            ROLLED_BACK: rolled_back,  # the last one: it may be added later
        }
        code = sum(mark.astype(np.int64) << bit for bit, mark in enumerate(marks.values()))
        codes, which = np.unique(code, return_inverse=True)
        lists = [
            [name for bit, name in enumerate(marks) if value >> bit & 1] or None
            for value in codes.tolist()
        ]
        return shared(which, pa.array(lists, TEXTS))
