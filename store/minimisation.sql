-- Reads of personal columns, one row per statement: which of the columns came because of a `*` alone.
-- Filled in: the rows, the personal columns in the names that each was written under, a condition on
-- log_time.
-- A column whose name stands anywhere in the text, whatever it means there, counts as read by name; a
-- template's texts differ by values and comments only, and one of them is looked at.
WITH statements AS (
  SELECT origin, min(query_fingerprint) AS query_fingerprint, min(query) AS query,
         min(session_user_id) AS actor, min(db_role) AS db_role, min(log_time) AS log_time,
         max(came_back(rows_returned, findings)) AS rows_returned,
         bool_or(columns_basis = 'star-expanded') AS starred,
         list_distinct(flatten(list(list_intersect(columns_accessed, {personal})))) AS columns
  FROM {audit}
  WHERE class = 'READ' AND repeat_of IS NULL AND success IS DISTINCT FROM false
    AND attribution_grade <> 'pooler' AND list_has_any(columns_accessed, {personal}) AND {period}
  -- One statement may have a row per relation; where the log doesn't tell statements apart, each is one.
  GROUP BY origin, coalesce(session_id, seq::VARCHAR), number_of(statement_id, seq, findings),
           substatement_id
), samples AS (
  SELECT query_fingerprint, min(query) AS query FROM statements GROUP BY ALL
), unnamed AS (
  SELECT query_fingerprint, list(name) AS columns
  FROM (SELECT DISTINCT query_fingerprint, unnest(columns) AS name FROM statements WHERE starred)
  JOIN samples USING (query_fingerprint)
  WHERE NOT regexp_matches(
    lower(query),
    '(^|[^a-z0-9_$])'
      || regexp_escape(lower(regexp_extract(name, '^[^.]*[.][^.]*[.](.*)$', 1, 's')))
      || '($|[^a-z0-9_$])')
  GROUP BY query_fingerprint
)
SELECT s.* EXCLUDE (starred),
       CASE WHEN starred THEN coalesce(list_sort(list_intersect(s.columns, u.columns)), [])
            ELSE [] END AS by_star
FROM statements s
LEFT JOIN unnamed u ON u.query_fingerprint = s.query_fingerprint
