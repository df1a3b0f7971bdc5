"""Benchmarks: protocols as data, GenEval's rules, the scenes detector, pictures and the report page.

Belongs here: everything between a finished pipeline and a score with its protocol beside it.
Does not belong here: training, the registry, and Dagster assets (they call into this package).
"""
