-- The rows of `audit` with what is asked beside them, in the names that each was written under.
-- Reads: audit_numbered, asked_names.
SELECT a.* EXCLUDE (names), n.of_tables, n.of_personal, n.of_subjects
FROM audit_numbered a JOIN asked_names n ON n.names = a.names
