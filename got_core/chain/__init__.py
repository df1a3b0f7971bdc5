"""The GoT formulation: boxes, chains and their spellings, mask colours, layout canvases, edits of a chain.

Belongs here: everything that reads or writes a chain. Not here: how chains are annotated (`annotate`),
judged against data rules (`curate`) or turned into model inputs (`model`).
"""
