"""Planning and drawing apart: is the plan right, and does the picture keep to it?

`geneval` and `edits` are the doors: plans written and judged without any drawing, and judged pictures set
against the plans that they were drawn from. `comparison` sets rows of one benchmark side by side: with plans,
without, by a base model.
"""
