-- Statements -> the client that was served: the join of key, pool and time. A key is an endpoint or
-- a tag.
-- Reads: statements (row, key, pool, log_time, log_time_end, seen: when the pooler says that it had the
-- client, if it does) and served (client, key, pool, since, until, there_since, there_until: by the
-- pooler's clock); pool is -1 for sessions without a pooler. A statement was logged at some time from
-- log_time to log_time_end, which differ where the log gives whole seconds. An endpoint is unique
-- while its connection lives, so nearly every statement finds one client; whoever finds several is
-- not named.
SELECT s.row, c.client
FROM statements s
JOIN served c
  ON c.key = s.key
 AND c.pool = s.pool
 AND c.since <= s.log_time_end AND s.log_time <= c.until
 AND (s.seen IS NULL OR s.seen BETWEEN c.there_since AND c.there_until);
