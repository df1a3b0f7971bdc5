"""Filter rules, selection lists, the training manifest, and the verdict on a shard.

Belongs here: deciding which rows are trained on. Not here: making the rows (`annotate`) or their
bytes.
"""
