"""Tests. A regular package, because some distributions install one of the same name, which would win."""
