"""Beside the graph's groups: removing what nothing names any more."""
