-- The rows of `audit`, each with the number of the names that it was written under.
-- Reads: audit, name_runs (from which row on which number holds).
SELECT a.*, coalesce(r.names, 0) AS names
FROM audit a ASOF LEFT JOIN name_runs r ON a.origin = r.origin AND a.seq >= r.first
