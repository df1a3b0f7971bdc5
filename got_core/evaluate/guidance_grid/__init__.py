"""The guidance grid: the same prompts at every pair of a text and a spatial guidance scale, as in the paper.

Each prompt has one plan and one noise, so pictures of a sheet differ by guidance alone. `grid` draws and
judges it, `config` has its numbers, `prompts` takes prompts from any benchmark, `pages` makes its pictures.
"""
