-- The subjects that most statements name. A token belongs to an identifier and a value.
SELECT
    s.token AS token,
    list_sort(list(DISTINCT s."column")) AS columns,
    arg_min(s.sealed, log_time) AS sealed,
    count(DISTINCT (origin, statement)) AS statements,
    min(log_time) AS first,
    max(log_time) AS last
FROM (SELECT log_time, origin, statement, unnest(list_distinct(subjects)) AS s FROM asked_rows)
GROUP BY 1
ORDER BY statements DESC, first, token
LIMIT {most}
