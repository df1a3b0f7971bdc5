"""Lists that people keep outside of the graph: takedowns, verdicts, benchmark pictures, imported chains."""
