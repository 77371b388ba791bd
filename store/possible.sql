-- Could this statement have shown the subject, or copied or changed what is kept of it? It touched
-- personal columns of a table that holds the subject, or deleted rows of it, and nothing in it
-- excludes the subject. A statement that couldn't be parsed counts when it touched such a table at
-- all, or when nobody knows what it touched.
--
-- That a statement names somebody else excludes the subject only where it reads no other rows than
-- those named: of shape `point`. `id = 5 OR region = 'EU'` names 5 and is of shape `range`.
-- A `write` is treated like `point`, unless its text may bring in rows beside those named (a query,
-- a joined table, OR, a second statement), hand rows back (RETURNING), or name somebody whom the
-- rows didn't belong to: a column of the subject in SET, or ON CONFLICT by another column. Then it
-- always counts. Such a word in a comment or in a value counts too: too many rows, never too few.
class IN ('READ', 'WRITE')
AND command <> 'PREPARE'  -- reads nothing; its EXECUTE is logged with the parameters
AND coalesce(list_has_any(affected_tables, $tables), true)
AND (
  list_has_any(columns_accessed, $personal)
  OR coalesce(columns_basis, 'unknown') IN ('unknown', 'object-audit')
  OR command IN ('DELETE', 'TRUNCATE TABLE')
)
AND coalesce(access_shape, 'full') <> 'none'
AND CASE
  WHEN coalesce(access_shape, 'full') = 'point'
    OR access_shape = 'write' AND NOT coalesce(
      regexp_matches(
        query,
        '\b(RETURNING|SELECT|TABLE|MERGE|USING|OR)\b|\bUPDATE\b.*\bFROM\b|;\s*\S',
        'is')
      OR regexp_matches(
        regexp_extract(query, '\bSET\b(.*?)(\bWHERE\b|$)', 1, 'is'),
        '(^|\W)(' || array_to_string(list_transform(list_filter($subject_columns,
            lambda c: list_contains(affected_tables, regexp_replace(c, '\.[^.]*$', ''))),
            lambda c: regexp_escape(regexp_extract(c, '[^.]*$'))), '|') || ')(\W|$)',
        'i')
      OR regexp_matches(query, '\bCONFLICT\b.*\bDO\s+UPDATE\b', 'is')
        AND NOT regexp_matches(
          query,
          '\bCONFLICT\s*\(\s*"?('
            || array_to_string(list_transform(list_filter($subject_columns,
            lambda c: list_contains(affected_tables, regexp_replace(c, '\.[^.]*$', ''))),
            lambda c: regexp_escape(regexp_extract(c, '[^.]*$'))), '|') || ')"?\s*\)',
          'i'),
      true)
  THEN NOT coalesce(
    list_has_any(list_transform(subjects, lambda s: s."column"), $subject_columns), false)
  ELSE true
END
-- What names the subject is direct.
AND NOT coalesce(list_has_any(list_transform(subjects, lambda s: s.token), $tokens), false)
