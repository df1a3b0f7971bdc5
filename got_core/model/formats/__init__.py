"""Weights on disk: the published layouts, the authors' release, and shards, read and checked."""
