"""Emu-Edit and MagicBrush: edits of photographs, measured against their sources or targets.

Belongs here: reading the two benchmarks' published data and layouts, their formulas, judging that goes on
where it stopped, and their scores. Not here: the networks that measure (`networks`), drawing the edits, or
the data themselves, which stay where the user downloaded them.
"""
