"""Attributed columns to answers: append-only Parquet under Merkle-chained manifests."""
