"""Training: foundation parts, joint stages, the data they read and the Ray entry that runs them.

Network definitions belong to ``got_core.model``.
"""
