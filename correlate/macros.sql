-- What several queries over events (columns of EVIDENCE) read in the same way.

-- How often a sidecar says that it lives, in seconds: what its `start` says, in bounds.
CREATE OR REPLACE MACRO heartbeat_s(event, detail) AS
  CASE WHEN event = 'start' AND json_valid(detail)
       THEN least(greatest(try_cast(json_extract_string(detail, '$.heartbeat_s') AS BIGINT), 1), 86400) END;

-- Nobody could be named because no pooler's log tells of the client.
CREATE OR REPLACE MACRO is_unheard(reason) AS
  coalesce(reason IN ('pooling-unknown', 'no-client-known', 'endpoint-not-alive'), false);

-- The last number that an event of a sidecar's stands for: `elapsed` stands for several (present.sql).
CREATE OR REPLACE MACRO last_of(event, sidecar_seq, detail) AS
  coalesce(CASE WHEN event = 'elapsed' THEN try_cast(detail AS BIGINT) END, sidecar_seq);
