"""Graph group `ingest`: raw files in."""
