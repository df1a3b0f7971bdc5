"""Stored latents: what the frozen autoencoder makes of the manifest's samples, in files that are read at
random. Their key, their bytes, their places; no torch here."""
