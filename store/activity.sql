-- The rows asked for, once: what the lists of `activity` are made from.
CREATE OR REPLACE TEMP TABLE asked_rows AS
SELECT log_time, command, success, access_shape, rows_returned, affected_tables, subjects
FROM audit
WHERE {clause}
