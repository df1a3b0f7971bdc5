"""Graph group `evaluate`: benchmarks and their report."""
