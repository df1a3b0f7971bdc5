"""The ablation: what chain, painted boxes and GoT pretraining each add, from the same foundation models.

Belongs here: which models are compared, making and scoring them, the table and its plot. Not here: training
(`got_core.train`) and the benchmark (`got_core.evaluate`) themselves.
"""
