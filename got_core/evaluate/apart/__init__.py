"""Planning and drawing apart: is the plan right, and does the picture keep to it?

`geneval` and `edits` are the doors: plans written and judged without any drawing, and judged pictures set
against the plans that they were drawn from.
"""
