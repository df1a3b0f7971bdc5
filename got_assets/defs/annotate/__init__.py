"""Graph group `annotate`: captions, boxes and chains."""
