-- What the statements of a breach touched in all, each counted once. A failed statement showed nothing.
SELECT
    count(*) FILTER (is_first AND success IS DISTINCT FROM false) AS statements,
    count(*) FILTER (is_first AND success = false) AS failed,
    rows_in_all(CASE WHEN is_first AND success IS DISTINCT FROM false THEN rows_returned END) AS rows_returned,
    min(log_time) FILTER (success IS DISTINCT FROM false) AS first,
    max(log_time) FILTER (success IS DISTINCT FROM false) AS last,
    coalesce(list_sort(list_distinct(flatten(
        list(affected_tables) FILTER (success IS DISTINCT FROM false)))), []) AS tables,
    coalesce(list_sort(list_distinct(flatten(
        list(columns_accessed) FILTER (success IS DISTINCT FROM false)))), []) AS columns
FROM breach_rows
