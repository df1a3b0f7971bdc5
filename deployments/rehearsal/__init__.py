"""The recipe ``paper`` rehearsed at tiny sizes: all that it works on, the walk, and what has to come of it.

Not here: anything that the project itself needs; nothing in ``got_core`` or ``got_assets`` imports this.
"""
