-- Statements of a run whose client has gone -> that client: the last one that bore its key.
-- Reads: statements (row, key, pool, log_time), served.
SELECT s.row, c.client
FROM statements s
ASOF JOIN served c
  ON c.key = s.key AND c.pool = s.pool AND s.log_time >= c.until;
