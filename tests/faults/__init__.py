"""Faults of servers for tests and benches: one proxy before real S3 and model servers."""
