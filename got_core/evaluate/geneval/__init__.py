"""GenEval as published: its prompts and picture folders, detectors with one interface, verdicts, scores.

Belongs here: what the published benchmark needs beside the project's own parts. Not here: its rules
(`planning.geneval`), its prompts about rendered scenes (`evaluate.scenes`), drawing (`evaluate.samples`), or
means and intervals (`evaluate.scores`).
"""
