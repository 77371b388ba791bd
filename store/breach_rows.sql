-- The rows of a breach, with the statement that each belongs to. A statement may have a row per
-- relation (pgaudit.log_relation), and each says how many rows the statement returned; `statement` is
-- the number of its first row. Where the log doesn't tell statements apart, each row is one.
CREATE OR REPLACE TEMP TABLE breach_rows AS
SELECT
    log_time, affected_tables, columns_accessed, subjects, attribution_grade,
    origin, min(seq) OVER one AS statement, seq = min(seq) OVER one AS is_first,
    max(came_back(rows_returned, findings)) OVER one AS rows_returned,
    bool_or(success) OVER one AS success
FROM audit
WHERE {clause}
WINDOW one AS (
    PARTITION BY origin, coalesce(session_id, seq::VARCHAR),
        number_of(statement_id, seq, findings), substatement_id
)
