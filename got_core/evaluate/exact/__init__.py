"""Counterparts of published edit benchmarks on rendered scenes, judged exactly: the edit asked for is known.

Belongs here: their cases, rules and suites. Not here: `edits/scenes` (`evaluate.edits`), the scene reader
(`evaluate.detector`), or the published benchmarks themselves.
"""
