"""The GoT model: language model, diffusion network, guidance, the diffusers pipeline and its file formats.

Training belongs to ``got_core.train``; the text form of a plan belongs to ``got_core.chain``.
"""
