"""Where benchmark pictures are drawn: in this process (`local`) or by workers of a Ray cluster (`cluster`).

Belongs here: handing out batches, and what they cost. Not here: drawing a batch and finding it again
(`evaluate.samples`), or a benchmark's own folders.
"""
