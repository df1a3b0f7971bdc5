"""A server of a model: OpenAI's images API, plans and drawings with chains as JSON, over one queue.

Belongs here: HTTP, what arrives together and is drawn together, swapping models. Not here: what may be
requested and drawing (`got_core.registry`), plans as documents (`got_core.inference`).
"""
