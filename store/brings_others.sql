-- May a writing statement bring in rows beside those that it names, or hand rows back? A word in
-- its text says so: a query, a joined table, OR, a second statement, RETURNING. Such a word in a
-- comment or in a value counts too: too many rows, never too few. So does a text that isn't known.
CREATE OR REPLACE TEMP MACRO brings_others(text) AS coalesce(regexp_matches(
  text,
  '\b(RETURNING|SELECT|TABLE|MERGE|USING|OR)\b|\bUPDATE\b.*\bFROM\b|;\s*\S',
  'is'), true)
