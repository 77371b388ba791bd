-- Possible accesses by what a reader tells apart: who, by which template, reading what.
-- Filled in: rows, which of them are possible, what the rows of a group share, what is told of its first row.
SELECT
    {group},
    {sample},
    count(*) AS times,
    min(log_time) AS first,
    max(log_time) AS last,
    rows_in_all(rows_returned) AS rows
FROM {audit}
WHERE {clause}
GROUP BY ALL
ORDER BY times DESC, first, min((origin, seq))
