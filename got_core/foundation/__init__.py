"""Small foundation models, trained on scenes: what the paper takes from published checkpoints.

Belongs here: what exists only to train them. Not here: GoT's own stages (``got_core.train``).
"""
