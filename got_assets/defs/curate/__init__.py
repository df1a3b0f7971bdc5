"""Graph group `curate`: selections and the training manifest."""
