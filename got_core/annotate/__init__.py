"""The two annotation pipelines, step by step, over one annotator interface.

Belongs here: steps, tables and annotators. Not here: which rows are good enough to train on (`curate`).
"""
