-- Whom the statements of a breach name, each once, the first first.
SELECT
    s.token AS token,
    list_sort(list(DISTINCT s."column")) AS columns,
    arg_min(s.sealed, log_time) AS sealed,
    count(DISTINCT n) AS statements,
    min(log_time) AS first,
    max(log_time) AS last,
    list_sort(list_distinct(flatten(list(affected_tables)))) AS tables,
    list_sort(list(DISTINCT attribution_grade)) AS grades
FROM (
    SELECT row_number() OVER () AS n, log_time, affected_tables, attribution_grade,
        unnest(subjects) AS s
    FROM breach_rows
    WHERE success IS DISTINCT FROM false
)
GROUP BY 1
ORDER BY first, token
