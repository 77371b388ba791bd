-- Of server connections that are still open: how many of their transactions no statement to come can belong to.
-- Reads: paired, server_lives, transactions, linking (pairing.sql), pairs_until (one row, `at`: by how far a statement to
-- come may lie behind, clocks included). Writes: passed_pairs (seq: of the connect, goes_on: number of the first
-- event that is kept, detail: what pairing.sql has to know of the rest).
-- The last transaction that has passed is kept: how long its client had the connection ends there.

CREATE OR REPLACE TEMP TABLE passed_pairs AS
WITH far AS (
  SELECT server, ordinal, max(greatest(since, until)) OVER (PARTITION BY server ORDER BY ordinal) AS latest
  FROM transactions
), last_passed AS (
  SELECT server, max(ordinal) AS ordinal FROM far, pairs_until WHERE latest < pairs_until."at" GROUP BY server
), in_order AS (
  -- Files that were read out of order: all is kept.
  SELECT process, pointer, life FROM (
    SELECT process, pointer, life, seq < lag(seq) OVER (PARTITION BY process, pointer, life ORDER BY step) AS back
    FROM paired
  ) GROUP BY ALL HAVING NOT coalesce(bool_or(back), false)
)
SELECT s.seq, t.seq AS goes_on,
       concat_ws(' ', 'passed', t.ordinal, t.stretch,
                 CASE WHEN s.server IN (FROM linking) THEN 'links' ELSE 'plain' END, t.seq) AS detail
FROM last_passed JOIN transactions t USING (server, ordinal) JOIN server_lives s USING (server)
JOIN in_order USING (process, pointer, life)
WHERE t.ordinal > s.passed OR s.goes_on IS NOT NULL;
