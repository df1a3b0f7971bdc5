"""Between planning and drawing: what a prompt requires, where a plan falls short of it, and its repair.

GenEval's rules are here, because plans and pictures are judged by the same ones; scores are not (`evaluate`).
"""
