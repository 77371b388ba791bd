-- The newest value of every column that some revision of an audit row changed, as JSON.
-- NULL: no revision names the column. JSON null: the newest one that names it withdraws it.
SELECT
    origin,
    audit_seq,
    {columns}
FROM {revisions}
GROUP BY origin, audit_seq
