-- One look at every row, for all that coverage counts: how many statements each person ran, and when.
-- Rows of a time of which the pooler's log tells are kept apart from those before (0) and after it (2),
-- so that first and last say of both what gaps.sql asks of the rows themselves.
-- Filled in: origin (a number) and side of a row, a condition on rows that are counted.
CREATE OR REPLACE TEMP TABLE met AS
SELECT
    person,
    {origin} AS origin,
    {side} AS side,
    count(*) FILTER ({clause}) AS n,
    min(log_time) FILTER ({clause}) AS first,
    max(log_time) FILTER ({clause}) AS last,
    min(log_time) AS ever_first,
    max(log_time) AS ever_last
FROM facts
GROUP BY ALL
