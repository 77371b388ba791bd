-- Could this statement have shown the subject, or copied or changed what is kept of it? It touched
-- personal columns of a table that holds the subject, or deleted rows of it, and nothing in it
-- excludes the subject. A statement that couldn't be parsed counts when it touched such a table at
-- all, or when nobody knows what it touched.
-- Filled in: what is asked, in the names that the row was written under; the columns of the subjects
-- that it names; what its text says of other rows (writing.sql).
--
-- That a statement names somebody else excludes the subject only where it reads no other rows than
-- those named: of shape `point`. `id = 5 OR region = 'EU'` names 5 and is of shape `range`.
-- A `write` is treated like `point`, unless its text may bring in rows beside those named, hand rows
-- back, or name somebody whom the rows didn't belong to: a column of the subject in SET, or
-- ON CONFLICT by another column. Then it always counts.
class IN ('READ', 'WRITE')
AND command <> 'PREPARE'  -- reads nothing; its EXECUTE is logged with the parameters
AND coalesce(list_has_any(affected_tables, {tables}), true)
AND (
  list_has_any(columns_accessed, {personal})
  OR coalesce(columns_basis, 'unknown') IN ('unknown', 'object-audit')
  OR command IN ('DELETE', 'TRUNCATE TABLE')
)
AND coalesce(access_shape, 'full') <> 'none'
AND CASE
  WHEN coalesce(access_shape, 'full') = 'point'
    OR access_shape = 'write' AND NOT coalesce(
      {brings_others}
      OR rewrites_any({rewritten}, subject_names({subject_columns}, affected_tables)), true)
  THEN NOT coalesce(list_has_any({named_columns}, {subject_columns}), false)
  ELSE true
END
