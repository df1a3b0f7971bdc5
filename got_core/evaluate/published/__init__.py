"""Published benchmarks behind one interface, whatever judges them.

Belongs here: which there are, what each needs downloaded, opening one. Not here: the benchmarks themselves
(`geneval`, `emu_edit`), or those on rendered scenes (`evaluate.benchmarks`).
"""
