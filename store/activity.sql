-- The rows asked for, once: what the lists of `activity` are made from.
-- A statement may have a row per relation (pgaudit.log_relation), and each says how many rows the
-- statement returned. `statement` is the number of its first row; where the log doesn't tell
-- statements apart, each row is one.
CREATE OR REPLACE TEMP TABLE asked_rows AS
SELECT
    log_time, command, access_shape, affected_tables, subjects,
    origin, min(seq) OVER one AS statement, seq = min(seq) OVER one AS is_first,
    min(log_time) OVER one AS began,
    max(came_back(rows_returned, findings)) OVER one AS rows_returned,
    bool_or(success) OVER one AS success
FROM audit
WHERE {clause}
WINDOW one AS (
    PARTITION BY origin, coalesce(session_id, seq::VARCHAR),
        number_of(statement_id, seq, findings), substatement_id
)
