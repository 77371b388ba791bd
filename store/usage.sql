-- What login roles needed to run their statements, by role, relation, columns and privilege.
-- Reads: audit. {where} is a condition on its rows. A statement of several relations may have needed any
-- of its privileges on each, and one that changes rows may have had to read them: not certain. One that
-- failed needed them as well; PostgreSQL's refusals aren't in audit. Rows are counted, of which a statement
-- may have several: of several statements in one message each has a row with the tables of all.
WITH done AS (
  SELECT db_role, class, command, affected_tables,
         CASE WHEN columns_basis IN ('parsed', 'star-expanded') THEN columns_accessed END AS columns,
         query IS NULL OR query ILIKE '%conflict%' AS may_update,
         count(*) AS statements, max(log_time) AS last
  FROM audit
  WHERE NOT is_forged(findings)
    -- A parallel worker's row may lack the role, which its leader's row has.
    AND (repeat_of IS NULL OR db_role IS NOT NULL)
    AND (class IN ('READ', 'WRITE') OR len(affected_tables) > 0) AND {where}
  GROUP BY ALL
), needed AS (
  SELECT *, CASE
    WHEN class = 'READ' THEN ['SELECT']
    WHEN class <> 'WRITE' THEN ['SELECT', 'INSERT', 'UPDATE', 'DELETE']
    WHEN command = 'INSERT' AND may_update THEN ['INSERT', 'UPDATE', 'SELECT']
    WHEN command = 'INSERT' THEN ['INSERT', 'SELECT']
    WHEN command = 'UPDATE' THEN ['UPDATE', 'SELECT']
    WHEN command = 'DELETE' THEN ['DELETE', 'SELECT']
    WHEN command = 'COPY' THEN ['INSERT', 'SELECT']
    WHEN command LIKE 'TRUNCATE%' THEN ['TRUNCATE']
    ELSE ['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'] END AS privileges
  FROM done
), each AS (
  SELECT db_role, affected_tables, columns, statements, last, unnest(privileges) AS privilege,
         class = 'READ'
           OR class = 'WRITE' AND len(affected_tables) = 1
              AND (command IN ('INSERT', 'UPDATE', 'DELETE', 'COPY') OR command LIKE 'TRUNCATE%')
              AS is_direct,
         CASE WHEN class = 'WRITE' THEN privileges[1] END AS first_one
  FROM needed
)
SELECT db_role, relation, privilege, coalesce(is_direct AND privilege = coalesce(first_one, privilege),
                                              false) AS is_certain,
       list_sort(list_transform(
         list_filter(columns, lambda c: starts_with(c, relation || '.')),
         lambda c: c[len(relation) + 2:])) AS columns,
       sum(statements)::BIGINT AS statements, max(last) AS last
FROM (SELECT * EXCLUDE (affected_tables),
             unnest(CASE WHEN affected_tables IS NULL THEN [NULL] ELSE affected_tables END) AS relation
      FROM each)
GROUP BY ALL
