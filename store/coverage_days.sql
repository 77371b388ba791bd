-- Per day of the period: how many statements of people there are, and how many of them are named.
SELECT
    strftime(log_time, '%Y-%m-%d') AS day,
    count(*) AS statements,
    count(*) FILTER (attribution_grade = 'pooler') AS by_the_pooler,
    count(*) FILTER (attribution_grade = 'proven') AS proven,
    count(*) FILTER (attribution_grade = 'confirmed') AS confirmed,
    count(*) FILTER (attribution_grade = 'claimed') AS claimed,
    count(*) FILTER (attribution_grade = 'candidates') AS candidates,
    count(*) FILTER (attribution_grade = 'unattributed') AS unattributed,
    count(DISTINCT session_user_id) AS actors,
    count(*) FILTER (len(findings) > 0) AS with_findings
FROM audit
WHERE {clause}
GROUP BY day
ORDER BY day
