-- One look at every row, for all that coverage counts: how many statements each person ran, and when.
-- Filled in: the number of a row's origin; what is counted: all rows, or those of a period.
CREATE OR REPLACE TEMP TABLE met AS
SELECT
    person,
    {origin} AS origin,
    {counted},
    min(log_time) AS ever_first,
    max(log_time) AS ever_last
FROM facts
GROUP BY ALL
