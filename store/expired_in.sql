-- What expired of a period, by log and reason: whoever reads an answer must know that it isn't whole.
SELECT
  origin,
  coalesce(sum("rows") FILTER (kind = 'audit'), 0)::BIGINT AS statements,
  sum("rows")::BIGINT AS "rows",
  min(oldest) AS oldest,
  max(newest) AS newest,
  max(expired_at) AS expired_at,
  reason
FROM expired
WHERE newest IS NOT NULL
  AND ($since::TIMESTAMPTZ IS NULL OR newest >= $since)
  AND ($until::TIMESTAMPTZ IS NULL OR oldest < $until)
GROUP BY origin, reason
ORDER BY origin, expired_at
