-- Statements under a name that the server cut -> whoever it may stand for at that time.
-- Reads: statements (row, form, pool, log_time, log_time_end, ordinal), wholes (form, endpoint, since), served.
-- A name stands for a client from the record on in which the pooler replayed it in full.
SELECT s.row, min(c.client) AS client, count(DISTINCT c.client) AS matches
FROM statements s
JOIN wholes w ON w.form = s.form AND w.since <= s.ordinal
JOIN served c
  ON c.key = w.endpoint
 AND c.pool = s.pool
 AND c.since <= s.log_time_end AND s.log_time <= c.until
GROUP BY s.row;
