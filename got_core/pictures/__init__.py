"""What a picture looks like, whatever file it came in: the pixels that training, annotation and drawing see.

Belongs here: which way up (`orientation`), colours, transparency and depth (`colours`, `profiles`). Not here:
which files are taken, and limits (`got_core.corpus.decode`).
"""

PIXELS = "pixels-2"
"""Raised when the same bytes give other pixels: whatever was made from pixels is then out of date."""
