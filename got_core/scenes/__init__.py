"""Scenes: rendered shapes with known truth, and the reader that gets them back from pixels."""
