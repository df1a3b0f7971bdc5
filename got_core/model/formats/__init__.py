"""Weights on disk: the published layouts, the authors' release, shards and precisions, read and checked."""
