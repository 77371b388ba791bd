-- Could this statement have shown the subject, or copied or changed what is kept of it? It touched
-- personal columns of a table that holds the subject, and nothing in it excludes the subject.
-- A statement that couldn't be parsed counts when it touched such a table at all.
-- Filled in: the columns of the subjects that it names, and whether it may bring in other rows
-- (brings_others.sql).
--
-- That a statement names somebody else excludes the subject only where it reads no other rows than
-- those named: of shape `point`. `id = 5 OR region = 'EU'` names 5 and is of shape `range`.
-- A `write` is treated like `point`, unless a word in its text may bring in rows beside those
-- named or hand rows back: then it always counts.
class IN ('READ', 'WRITE')
AND command <> 'PREPARE'  -- reads nothing; its EXECUTE is logged with the parameters
AND list_has_any(affected_tables, $tables)
AND (
  list_has_any(columns_accessed, $personal)
  OR coalesce(columns_basis, 'unknown') IN ('unknown', 'object-audit')
)
AND coalesce(access_shape, 'full') <> 'none'
AND CASE
  WHEN coalesce(access_shape, 'full') = 'point'
    OR access_shape = 'write' AND NOT {brings_others}
  THEN NOT coalesce(list_has_any({named_columns}, $subject_columns), false)
  ELSE true
END
