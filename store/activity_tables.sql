-- The tables that most statements touched.
SELECT
    unnest(affected_tables) AS "table",
    count(*) AS statements,
    sum(rows_returned)::BIGINT AS rows_returned,
    min(log_time) AS first,
    max(log_time) AS last
FROM asked_rows
GROUP BY 1
ORDER BY statements DESC, 1
LIMIT {most}
