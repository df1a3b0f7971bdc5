"""Benchmarks: protocols as data, detectors, judges, one runner, and the report page.

Belongs here: everything between a finished pipeline and a score with its protocol beside it.
Not here: rules that plans are checked by too (`planning`), training, the registry, and Dagster assets (they
call into this package). A new benchmark is a module with a `suite.Suite` and an entry in `benchmarks`.
"""
