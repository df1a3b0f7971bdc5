"""Benchmarks of speed and memory, against the plainest code that does the same."""
