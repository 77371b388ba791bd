-- Statements, rows and people by the day (UTC) on which statements began.
SELECT
    CAST(began AT TIME ZONE 'UTC' AS DATE) AS day,
    count(*) FILTER (is_first) AS statements,
    sum(rows_returned) FILTER (is_first)::BIGINT AS rows_returned,
    len(list_distinct(flatten(list(list_transform(subjects, lambda s: s.token))))) AS subjects
FROM asked_rows
GROUP BY 1
ORDER BY 1
