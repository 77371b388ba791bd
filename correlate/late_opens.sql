-- Logins of the pooler's that no identity event spoke of before, but one spoke of soon after: by how many
-- milliseconds. Behind one clock there are none but of endpoints that are used again at once.
-- Reads: pooler_clients, identities.
SELECT (epoch_us(i.opened) - epoch_us(c.since)) / 1000
FROM pooler_clients c
ASOF JOIN (SELECT DISTINCT client_addr, client_port, opened FROM identities) i
  ON i.client_addr = c.client_addr AND i.client_port = c.client_port AND c.since < i.opened
WHERE c.client_addr NOT LIKE 'unix%'
  AND i.opened < c.since + INTERVAL 60 SECONDS
  AND (c.next_taken IS NULL OR i.opened < c.next_taken)
  AND NOT EXISTS (SELECT 1 FROM identities e
                  WHERE e.client_addr = c.client_addr AND e.client_port = c.client_port
                    AND e.opened <= c.since AND e.opened > c.since - INTERVAL 60 SECONDS)
