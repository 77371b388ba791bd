-- Could this statement have shown the subject? It read personal columns of a table that holds the
-- subject, and it names no one: had it named others only, it would have excluded the subject.
-- A statement that couldn't be parsed counts when it touched such a table at all.
class IN ('READ', 'WRITE')
AND command <> 'PREPARE'  -- reads nothing; its EXECUTE is logged with the parameters
AND list_has_any(affected_tables, $tables)
AND (
  list_has_any(columns_accessed, $personal)
  OR coalesce(columns_basis, 'unknown') IN ('unknown', 'object-audit')
)
AND coalesce(access_shape, 'full') IN ('range', 'full', 'export', 'point', 'aggregate')
AND NOT coalesce(
  list_has_any(list_transform(subjects, lambda s: s."column"), $subject_columns), false)
