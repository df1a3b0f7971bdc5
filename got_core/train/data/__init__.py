"""Training data: rows of the manifest become samples, samples become batches."""
