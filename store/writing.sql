-- What the text of a writing statement says of rows beside those that it names. Such words in a
-- comment or in a value count too: too many rows, never too few. So does a text that isn't known.

-- May it bring in other rows (a query, a joined table, OR, a second statement), or hand rows back?
CREATE OR REPLACE MACRO brings_others(text) AS coalesce(regexp_matches(
  text,
  '\b(RETURNING|SELECT|TABLE|MERGE|USING|OR)\b|\bUPDATE\b.*\bFROM\b|;\s*\S',
  'is'), true);

-- The words of what it sets, values left out; of ON CONFLICT … DO UPDATE `conflict:` and by what.
CREATE OR REPLACE MACRO rewritten_by(text) AS list_sort(list_distinct(
  regexp_extract_all(
    lower(regexp_replace(
      regexp_extract(text, '\bSET\b(.*?)(\bWHERE\b|$)', 1, 'is'), '''[^'']*''', ' ', 'g')),
    '[a-z_](?:[\w$ ]*[\w$])?')
  || CASE WHEN regexp_matches(text, '\bCONFLICT\b.*\bDO\s+UPDATE\b', 'is')
    THEN ['conflict:'
      || lower(trim(regexp_extract(text, '\bCONFLICT\s*\(\s*"?([^)"]*)"?\s*\)', 1, 'is')))]
    ELSE CAST([] AS VARCHAR[]) END));

-- The bare names of those of the columns whose tables the statement touched.
CREATE OR REPLACE MACRO subject_names(columns, tables) AS list_transform(
  list_filter(columns::VARCHAR[], lambda c: list_contains(tables, regexp_replace(c, '\.[^.]*$', ''))),
  lambda c: lower(regexp_extract(c, '[^.]*$')));

-- Does it set one of these columns, or find its rows by another one? A name of other letters than
-- ASCII's can't be told apart: it counts as set.
CREATE OR REPLACE MACRO rewrites_any(words, names) AS
  len(list_filter(words, lambda w: NOT starts_with(w, 'conflict:') AND len(list_filter(names,
    lambda n: contains(' ' || w || ' ', ' ' || n || ' ') OR regexp_matches(n, '[^\w$ ]'))) > 0)) > 0
  OR len(list_filter(words, lambda w: starts_with(w, 'conflict:')
    AND NOT list_contains(list_transform(names, lambda n: 'conflict:' || n), w))) > 0;
