-- Whom the statements of a breach that reached data name, each once, the first first. PostgreSQL
-- did not refuse or abort them.
SELECT
    s.token AS token,
    list_sort(list(DISTINCT s."column")) AS columns,
    arg_min(s.sealed, log_time) AS sealed,
    count(DISTINCT (origin, statement)) AS statements,
    min(log_time) AS first,
    max(log_time) AS last,
    list_sort(list_distinct(flatten(list(affected_tables)))) AS tables,
    list_sort(list(DISTINCT attribution_grade)) AS grades
FROM (
    SELECT origin, statement, log_time, affected_tables, attribution_grade,
        unnest(subjects) AS s
    FROM breach_rows
    WHERE success IS DISTINCT FROM false
)
GROUP BY 1
ORDER BY first, token
