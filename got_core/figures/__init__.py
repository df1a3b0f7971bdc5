"""Pictures that people look at: grids, boxes drawn on, thumbnails. No benchmark and no training here."""
