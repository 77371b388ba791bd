-- Pairing events of the pooler's log -> the transactions of each server connection, in order.
-- Reads: events (columns of EVIDENCE). Writes: transactions (server, ordinal, kind, stretch, seq, since,
-- until, client_addr, client_port, applied, noted: when the pooler said so), server_lives (server, client_addr, client_port, ts,
-- passed: so many of its transactions aren't here any more), linking (server: it noted links) and own_texts (server, applied).
-- Where a line must be missing, a new stretch begins: what the numbers say of one holds for it alone.
-- A server connection is (process, pointer) from its connect to the next one of that pointer. What the
-- pooler did stands in the order of its log (`seq`), which milliseconds don't tell.

-- A log may be read in several pieces (files, or one that has grown): at the beginning of each,
-- `pairing-begins`, lines may be missing. Pieces of one process id follow each other in time; where they
-- don't, they are several processes' (of several hosts), and none goes on in another.
CREATE OR REPLACE TEMP TABLE pairing_events AS
WITH pieces AS (
  SELECT seq, event, ts, sidecar, connection, client_addr, client_port, detail, source_file,
         count(CASE WHEN event = 'pairing-begins' THEN 1 END) OVER (PARTITION BY source_file, sidecar ORDER BY seq) AS piece
  FROM events
  WHERE source = 'pgbouncer' AND event IN ('link', 'served', 'replay', 'pooler-query', 'server-close',
                                           'server-connect', 'unpaired', 'pairing-begins')
), bounds AS (
  SELECT sidecar, source_file, piece, min(ts) AS first_ts, max(ts) AS last_ts, min(seq) AS first_seq
  FROM pieces GROUP BY ALL
), placed AS (
  SELECT *, row_number() OVER before AS place,
         max(last_ts) OVER (before ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) > first_ts AS overlapping
  FROM bounds
  WINDOW before AS (PARTITION BY sidecar ORDER BY first_ts, first_seq)
), apart AS (
  SELECT *, bool_or(overlapping) OVER (PARTITION BY sidecar) AS several FROM placed
)
SELECT p.* EXCLUDE (piece, source_file), p.sidecar || CASE WHEN a.several THEN ' ' || a.place ELSE '' END AS process,
       row_number() OVER (ORDER BY a.place, p.seq) AS step
FROM pieces p JOIN apart a USING (sidecar, source_file, piece);

CREATE OR REPLACE TEMP TABLE paired AS
WITH told AS (
  -- Without a pointer: it can't be said on which server connection.
  SELECT *, detail AS pointer FROM pairing_events WHERE event IN ('link', 'served')
), lost AS (
  SELECT process, step, ts AS lost_at, row_number() OVER (PARTITION BY process ORDER BY step) AS losses
  FROM (SELECT process, step, ts FROM told WHERE pointer IS NULL
        UNION ALL SELECT process, step, ts FROM pairing_events WHERE event = 'pairing-begins')
), all_events AS (
  SELECT seq, step, event, ts, process, pointer, client_addr, client_port, NULL AS applied
  FROM told WHERE pointer IS NOT NULL
  UNION ALL
  SELECT seq, step, event, ts, process, connection, NULL, NULL, detail
  FROM pairing_events WHERE event IN ('replay', 'pooler-query', 'server-close', 'unpaired')
  UNION ALL
  SELECT seq, step, event, ts, process, connection, client_addr, client_port, detail
  FROM pairing_events WHERE event = 'server-connect'
)
SELECT e.*,
       count(CASE WHEN event = 'server-connect' THEN 1 END) OVER life AS life,
       count(CASE WHEN event = 'unpaired' THEN 1 END) OVER life + coalesce(l.losses, 0) AS stretch,
       -- What was lost may have been this connection's.
       greatest(lag(ts) OVER life, l.lost_at) AS before,
       max(ts) OVER (PARTITION BY e.process) AS last_ts
FROM all_events e
ASOF LEFT JOIN lost l ON l.process = e.process AND e.step > l.step
WINDOW life AS (PARTITION BY e.process, pointer ORDER BY e.step);

DROP TABLE pairing_events;  -- as large as the next ones

-- In `applied`, after its transactions have passed (passed_pairs.sql): what is left out of it, and where it goes on.
CREATE OR REPLACE TEMP TABLE server_lives AS
WITH lives AS (
  SELECT row_number() OVER (ORDER BY seq) - 1 AS server, * EXCLUDE (applied),
         lead(ts) OVER (PARTITION BY process, pointer ORDER BY step) AS next_connect,
         string_split(applied, ' ') AS said
  FROM paired WHERE event = 'server-connect'
)
SELECT l.* EXCLUDE (said), coalesce(said[2]::BIGINT, 0) AS passed, coalesce(said[3]::BIGINT, 0) AS passed_stretches,
       coalesce(said[4] = 'links', false) AS linked, goes_on.step AS goes_on
FROM lives l LEFT JOIN paired goes_on ON goes_on.seq = said[5]::UBIGINT;

-- A link that no transaction ended: the client left in the middle, or the log ends there.
CREATE OR REPLACE TEMP TABLE transactions AS
WITH numbered AS (
  SELECT p.* EXCLUDE (stretch), s.server, s.passed, lead(p.event) OVER w AS next_event,
         -- 0 from its connect on.
         s.passed_stretches + p.stretch - first_value(p.stretch) OVER w AS stretch
  FROM paired p
  JOIN server_lives s USING (process, pointer, life)
  WHERE s.goes_on IS NULL OR p.step >= s.goes_on
  WINDOW w AS (PARTITION BY s.server ORDER BY p.step)
)
SELECT server, passed + row_number() OVER (PARTITION BY server ORDER BY step) - 1 AS ordinal,
       CASE event WHEN 'served' THEN 'client' WHEN 'link' THEN 'client' ELSE 'pooler' END AS kind,
       stretch, seq, client_addr, client_port, applied, ts AS noted,
       CASE WHEN event = 'served' THEN coalesce(before, ts) ELSE ts END AS since,
       CASE WHEN event = 'served' THEN ts
            ELSE coalesce(lead(ts) OVER (PARTITION BY server ORDER BY step), last_ts) END AS until
FROM numbered
WHERE event IN ('served', 'replay', 'pooler-query')
   OR (event = 'link' AND coalesce(next_event, 'server-close') IN ('link', 'replay', 'server-close'));

CREATE OR REPLACE TEMP TABLE linking AS
SELECT s.server
FROM paired p JOIN server_lives s USING (process, pointer, life)
WHERE p.event = 'link'
UNION
SELECT server FROM server_lives WHERE linked;

-- What the pooler ever said there by itself.
CREATE OR REPLACE TEMP TABLE own_texts AS
SELECT DISTINCT s.server, p.applied
FROM paired p JOIN server_lives s USING (process, pointer, life)
WHERE p.event IN ('replay', 'pooler-query') AND p.applied IS NOT NULL;
