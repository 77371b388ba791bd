-- Statements, rows and people by the day (UTC) on which statements began.
SELECT
    CAST(began AT TIME ZONE 'UTC' AS DATE) AS day,
    count(*) FILTER (is_first) AS statements,
    rows_in_all(CASE WHEN is_first THEN rows_returned END) AS rows_returned,
    len(list_distinct(flatten(list(list_transform(subjects, lambda s: s.token))))) AS subjects
FROM asked_rows
GROUP BY 1
ORDER BY 1
