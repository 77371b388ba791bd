-- Each statement once.
SELECT
    count(*) FILTER (is_first) AS statements,
    rows_in_all(CASE WHEN is_first THEN rows_returned END) AS rows_returned,
    min(log_time) AS first,
    max(log_time) AS last,
    count(*) FILTER (is_first AND success = false) AS failed
FROM asked_rows
