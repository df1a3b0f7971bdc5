"""From one cell of a score table to all that is known of it: `got why geneval/scenes/00012`.

`address` has the names by which cells are asked for, `cells` finds them in stored tables, `readings` reads
the rows of any benchmark with `values`, `pictures` finds the picture, `sources` what an edit was to be made
of, `neighbours` the training pictures nearest to it. `evidence` puts the chain together, `text` shows it.
"""
