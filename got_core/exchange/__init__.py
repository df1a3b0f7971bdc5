"""Released GoT data sets in, and our own data out in the same form.

Belongs here: files of other people's making and their columns. Not here: annotating (`annotate`), judging
rows (`curate`), decoding pictures (`corpus`).
"""
