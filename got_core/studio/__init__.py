"""The studio: a page on which an artist plans, moves boxes, draws again, and edits in rounds.

Belongs here: the page, its canvas, sessions and their files, corrections that go back into the data. Not
here: planning and drawing (`got_core.model`), the queue before a model (`got_core.serving`), checks and
repair of plans (`got_core.planning`).
"""
