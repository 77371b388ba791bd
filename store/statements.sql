-- What tells statements apart, and what is summed over them. A line that a client made up is a statement of its
-- own: the number in it may be that of a genuine one, and the rows that it says came back didn't.

CREATE OR REPLACE MACRO is_forged(findings) AS coalesce(list_contains(findings, 'forged-line'), false);

-- The number within its session; the row's own where the log doesn't tell statements apart.
CREATE OR REPLACE MACRO number_of(statement_id, seq, findings) AS
  CASE WHEN statement_id IS NULL OR is_forged(findings) THEN -1 - seq::BIGINT ELSE statement_id END;

CREATE OR REPLACE MACRO came_back(rows_returned, findings) AS
  CASE WHEN NOT is_forged(findings) THEN rows_returned END;

-- Never an overflow: what a client wrote into the log must not make a question fail.
CREATE OR REPLACE MACRO rows_in_all(n) AS
  CASE WHEN sum(n) > 9223372036854775807 THEN 9223372036854775807 ELSE sum(n)::BIGINT END;
