-- Each statement once.
SELECT
    count(*) FILTER (is_first) AS statements,
    sum(rows_returned) FILTER (is_first)::BIGINT AS rows_returned,
    min(log_time) AS first,
    max(log_time) AS last,
    count(*) FILTER (is_first AND success = false) AS failed
FROM asked_rows
