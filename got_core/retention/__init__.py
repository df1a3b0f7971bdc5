"""What may go: everything in a storage that nothing names any more, by age.

Belongs here: finding it and removing it. Not here: leases of who works meanwhile and what is printed
(`got_assets`), and what each room removes by itself while it works (old checkpoints, replaced tars).
"""
