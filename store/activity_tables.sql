-- The tables that most statements touched.
SELECT
    "table",
    count(*) AS statements,
    rows_in_all(rows_returned) AS rows_returned,
    min(first) AS first,
    max(last) AS last
FROM (
    SELECT
        unnest(affected_tables) AS "table", origin, statement,
        any_value(rows_returned) AS rows_returned, min(log_time) AS first, max(log_time) AS last
    FROM asked_rows
    GROUP BY 1, 2, 3
)
GROUP BY 1
ORDER BY statements DESC, 1
LIMIT {most}
