"""Graph group `register`: model registry and promotion."""
