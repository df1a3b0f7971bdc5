"""Benchmarks that a vision model judges, each a folder with a `benchmark.toml` and no code."""
