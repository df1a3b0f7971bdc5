"""Raw images and edit pairs in: inputs, shard lists, decoding limits, identity, duplicates, quarantine."""
