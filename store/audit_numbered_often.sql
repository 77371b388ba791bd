-- The same as audit_numbered.sql, where runs are many.
SELECT a.*, r.names
FROM audit a ASOF JOIN name_runs r ON a.origin = r.origin AND a.seq >= r.first
