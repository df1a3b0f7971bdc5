"""Making stored latents: the autoencoder of a stage over the pictures of the manifest."""
