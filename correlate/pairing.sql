-- Pairing events of the pooler's log -> the transactions of each server connection, in order.
-- Reads: events (columns of EVIDENCE). Writes: transactions (server, ordinal, kind, stretch, seq, since,
-- until, client_addr, client_port, applied, noted: when the pooler said so) and server_lives (server, client_addr, client_port, ts).
-- Where a line must be missing, a new stretch begins: what the numbers say of one holds for it alone.
-- A server connection is (process, pointer) from its connect to the next one of that pointer. What the
-- pooler did stands in the order of its log (`seq`), which milliseconds don't tell.

CREATE OR REPLACE TEMP TABLE paired AS
WITH links AS (
  SELECT *, last_value(CASE WHEN event = 'link' THEN detail END IGNORE NULLS) OVER (
              PARTITION BY source_file, sidecar, connection ORDER BY seq) AS linked
  FROM events WHERE source = 'pgbouncer' AND event IN ('link', 'served')
), told AS (
  -- Where the lines' order doesn't tell the server connection, the client's last link does.
  SELECT *, coalesce(detail, linked) AS pointer FROM links
), lost AS (
  SELECT source_file, sidecar, seq, ts AS lost_at,
         row_number() OVER (PARTITION BY source_file, sidecar ORDER BY seq) AS losses
  FROM told WHERE pointer IS NULL
), all_events AS (
  SELECT seq, event, ts, source_file, sidecar, pointer, client_addr, client_port, NULL AS applied
  FROM told WHERE pointer IS NOT NULL
  UNION ALL
  SELECT seq, event, ts, source_file, sidecar, connection, NULL, NULL, detail
  FROM events WHERE source = 'pgbouncer' AND event IN ('replay', 'pooler-query', 'server-close', 'unpaired')
  UNION ALL
  SELECT seq, event, ts, source_file, sidecar, connection, client_addr, client_port, NULL
  FROM events WHERE source = 'pgbouncer' AND event = 'server-connect'
)
SELECT e.*,
       count(*) FILTER (event = 'server-connect') OVER life AS life,
       count(*) FILTER (event = 'unpaired') OVER life + coalesce(l.losses, 0) AS stretch,
       -- What was lost may have been this connection's.
       greatest(lag(ts) OVER life, l.lost_at) AS before
FROM all_events e
ASOF LEFT JOIN lost l
  ON l.source_file = e.source_file AND l.sidecar = e.sidecar AND e.seq > l.seq
WINDOW life AS (PARTITION BY e.source_file, e.sidecar, pointer ORDER BY e.seq);

CREATE OR REPLACE TEMP TABLE server_lives AS
SELECT row_number() OVER (ORDER BY seq) - 1 AS server, *,
       lead(ts) OVER (PARTITION BY source_file, sidecar, pointer ORDER BY seq) AS next_connect
FROM paired WHERE event = 'server-connect';

-- A link that no transaction ended: the client left in the middle, or the log ends there.
CREATE OR REPLACE TEMP TABLE transactions AS
WITH numbered AS (
  SELECT p.*, s.server,
         lead(p.event) OVER w AS next_event
  FROM paired p
  JOIN server_lives s USING (source_file, sidecar, pointer, life)
  WINDOW w AS (PARTITION BY s.server ORDER BY p.seq)
)
SELECT server, row_number() OVER (PARTITION BY server ORDER BY seq) - 1 AS ordinal,
       CASE event WHEN 'served' THEN 'client' WHEN 'link' THEN 'client' ELSE 'pooler' END AS kind,
       stretch, seq, client_addr, client_port, applied, ts AS noted,
       CASE WHEN event = 'served' THEN coalesce(before, ts) ELSE ts END AS since,
       CASE WHEN event = 'served' THEN ts
            ELSE lead(ts) OVER (PARTITION BY server ORDER BY seq) END AS until
FROM numbered
WHERE event IN ('served', 'replay', 'pooler-query')
   OR (event = 'link' AND coalesce(next_event, 'server-close') IN ('link', 'replay', 'server-close'));

CREATE OR REPLACE TEMP TABLE linking AS
SELECT DISTINCT s.server
FROM paired p JOIN server_lives s USING (source_file, sidecar, pointer, life)
WHERE p.event = 'link';
