"""GenEval 2 as published: its list, its picture layout, its questions to a judge, and its scores.

Belongs here: one benchmark. Not here: how a server is asked (`annotate`), or the command that runs
benchmarks.
"""
