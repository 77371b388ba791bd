-- The pooler processes that the evidence tells of, and from when to when.
SELECT
    sidecar AS process,
    max(detail) FILTER (event = 'process-up') AS version,
    min(ts) AS first,
    max(ts) AS last,
    count(*) FILTER (event = 'client-login') AS logins
FROM evidence
WHERE source = 'pgbouncer'
GROUP BY process
ORDER BY first
