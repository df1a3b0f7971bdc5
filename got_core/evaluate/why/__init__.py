"""From one cell of a score table to all that is known of it: `got why geneval/scenes/00012`.

`address` has the names by which cells are asked for and the command that explains one.
"""
