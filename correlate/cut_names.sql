-- Statements under a name that the server cut -> whoever it may stand for at that time.
-- Reads: statements (row, form, pool, log_time, ordinal), wholes (form, endpoint, since), served.
-- A name stands for a client from the record on in which the pooler replayed it in full.
SELECT s.row, min(c.client) AS client, count(DISTINCT c.client) AS matches
FROM statements s
JOIN wholes w ON w.form = s.form AND w.since <= s.ordinal
JOIN served c
  ON c.endpoint = w.endpoint
 AND c.pool = s.pool
 AND s.log_time BETWEEN c.since AND c.until
GROUP BY s.row;
