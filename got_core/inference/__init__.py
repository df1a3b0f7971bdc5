"""One picture from a model: the model by its name, the plan as a document, the picture as a file.

Belongs here: what a person who has a model does with it. Not here: planning and drawing themselves
(`got_core.model`), checks and repair of plans (`got_core.planning`), requests of other programs
(`got_core.registry`).
"""
