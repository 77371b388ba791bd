-- Groups of possible accesses (possible_groups.sql) by number; `place` is that of the first row.
CREATE OR REPLACE TEMP TABLE possible_groups AS
SELECT
    "statement",
    person,
    count(*) AS times,
    min(log_time) AS first,
    max(log_time) AS last,
    rows_in_all(rows_returned) AS rows,
    min(place) AS place
FROM ({facts})
GROUP BY ALL
