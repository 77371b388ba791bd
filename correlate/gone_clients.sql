-- Statements of a run whose client has gone -> that client: the last one that lived at its endpoint.
-- Reads: statements (row, endpoint, pool, log_time), served.
SELECT s.row, c.client
FROM statements s
ASOF JOIN served c
  ON c.endpoint = s.endpoint AND c.pool = s.pool AND s.log_time >= c.until;
