-- Statements, rows and people by day (UTC).
SELECT
    CAST(log_time AT TIME ZONE 'UTC' AS DATE) AS day,
    count(*) AS statements,
    sum(rows_returned)::BIGINT AS rows_returned,
    len(list_distinct(flatten(list(list_transform(subjects, lambda s: s.token))))) AS subjects
FROM asked_rows
GROUP BY 1
ORDER BY 1
