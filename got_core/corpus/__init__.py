"""Raw images and edit pairs in: shard lists, decoding limits, identity, duplicates, quarantine."""
