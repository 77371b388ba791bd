-- When sources fell silent: a SELECT over events (columns of EVIDENCE). Needs macros.sql and periods.sql.
-- A running PgBouncer writes its statistics every `stats_period` (60 s unless it says otherwise, as its
-- own lines show), so that longer silence means that lines are missing. With `log_stats = 0` nothing
-- tells. A sidecar numbers its events.
WITH alive AS (
  SELECT origin, seq, sidecar AS process, event, ts,
         lag(ts) OVER (PARTITION BY origin, sidecar ORDER BY ts, seq) AS before
  FROM {events}
  WHERE source = 'pgbouncer' AND event IN ('alive', 'process-up', 'elapsed')
), usual AS (
  -- Few lines tell little: then the default, which finds too many silences rather than too few.
  SELECT origin, process, CASE WHEN seen >= 3 THEN period_us ELSE 60e6 END AS period_us FROM ({periods})
), told AS (
  SELECT origin, seq, sidecar, ts, sidecar_seq,
         heartbeat_s(event, detail) AS heartbeat_s, event,
         count(CASE WHEN event = 'start' THEN 1 END) OVER (PARTITION BY origin, sidecar ORDER BY ts, sidecar_seq)
           AS life
  FROM {events} WHERE source = 'identity'
), numbered AS (
  SELECT *, lag(ts) OVER w AS before, lag(sidecar_seq) OVER w AS last_seq
  FROM told
  WINDOW w AS (PARTITION BY origin, sidecar ORDER BY life, sidecar_seq, ts)
)
SELECT origin, seq, 'pooler-log-silent' AS reason, process AS source, before AS since, ts AS until,
       NULL::BIGINT AS missing
FROM alive JOIN usual USING (origin, process)
WHERE event = 'alive' AND epoch_us(ts) - epoch_us(before) > 1.5 * period_us + 5e6
UNION ALL
SELECT origin, seq, 'identity-events-missing', sidecar, before, ts, sidecar_seq - last_seq - 1
FROM numbered WHERE sidecar_seq - last_seq > 1
UNION ALL
-- It says at least that it lives, every heartbeat, from its start on.
SELECT origin, seq, 'identity-events-silent', sidecar, before, ts, NULL
FROM (SELECT *, max(heartbeat_s) OVER (PARTITION BY origin, sidecar, life) AS every_s FROM numbered)
WHERE event <> 'start' AND sidecar_seq - last_seq = 1
  AND ts > before + to_seconds(3 * coalesce(every_s, 10))
