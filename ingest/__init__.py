"""Bytes to columns: reads what PostgreSQL, the pooler and the sidecar wrote."""
