-- The statements of a breach that reached data: PostgreSQL did not refuse or abort them.
CREATE OR REPLACE TEMP TABLE breach_rows AS
SELECT
    log_time, success, rows_returned, affected_tables, columns_accessed, subjects,
    attribution_grade
FROM audit
WHERE {clause}
