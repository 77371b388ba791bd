-- What is missing: what the server's log showed when it was read, and what shows now beside the evidence.
-- Reads: committed (the rows of `gaps`), silences (see correlate/silences.sql), audit, evidence.
WITH heard AS (
  SELECT origin, min(ts) AS first_ts, max(ts) + INTERVAL 65 SECONDS AS last_ts
  FROM evidence WHERE source = 'pgbouncer' GROUP BY origin
), unheard AS (
  -- Statements that nobody could be named for, and of whose time no pooler's log tells.
  SELECT a.origin, a.log_time, a.log_time >= h.first_ts AS afterwards
  FROM audit a LEFT JOIN heard h ON h.origin = a.origin
  WHERE is_unheard(a.attribution_reason)
    AND (h.origin IS NULL OR a.log_time NOT BETWEEN h.first_ts AND h.last_ts)
), sidecars AS (
  SELECT origin, sidecar, max(ts) AS last_ts, max_by(seq, ts) AS seq, max_by(event, ts) AS last_event,
         max(heartbeat_s(event, detail)) AS heartbeat_s
  FROM evidence WHERE source = 'identity' GROUP BY origin, sidecar
), span AS (
  SELECT origin, max(log_time) AS last_statement FROM audit GROUP BY origin
)
SELECT * FROM committed
UNION ALL BY NAME
SELECT origin || '/evidence#' || seq AS id, seq, origin, until AS log_time, since, reason, missing,
       source AS detail
FROM silences
UNION ALL BY NAME
SELECT NULL AS id, origin, max(log_time) AS log_time, min(log_time) AS since,
       'pooler-log-missing' AS reason
FROM unheard GROUP BY origin, afterwards
UNION ALL BY NAME
SELECT origin || '/evidence#' || seq AS id, seq, origin, last_statement AS log_time, last_ts AS since,
       'identity-events-silent' AS reason, sidecar AS detail
FROM sidecars JOIN span USING (origin)
WHERE last_event <> 'stop' AND last_statement > last_ts + to_seconds(3 * coalesce(heartbeat_s, 10))
