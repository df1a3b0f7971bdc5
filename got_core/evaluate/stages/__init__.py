"""What each stage of a training added: its models on the same prompts, edits and noise.

Belongs here: drawing and judging for several models at once, their figures and differences, the plot. Not
here: the benchmarks (`scenes`, `edits`), or where models come from (the graph, `inference.stages`).
"""
