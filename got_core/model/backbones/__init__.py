"""The two networks that GoT is built around, each family behind a protocol.

``protocols`` says what a planner and a drawer can do, ``qwen2_5_vl`` and ``sdxl_unet`` are one family each,
``registry`` finds the adapter of a network by its class. Another family is another module like those two and
an entry in the registry.
"""
