"""Vision models behind OpenAI-compatible servers that judge pictures, for every benchmark that asks one.

Belongs here: one judge, what a call to it shows, reading its replies, its canary, and its ledger as a table.
Not here: which calls a benchmark makes and what its score is (`geneval2`, `judged`), or HTTP (`annotate`).
"""
