"""The benchmark page: one HTML file with everything in it.

    html = benchmark_report([Section(scores, grid_png, samples, pictures=read, beside=(champion,))])

Belongs here: laying out scores, plots, pictures, plans, protocol and lineage, of a candidate and beside it
the champion. Not here: making any of them, or the pages of commands (`comparison_page`).
"""

from got_core.evaluate.report.page import benchmark_report, report_markdown
from got_core.evaluate.report.section import Run, Section

__all__ = ["Run", "Section", "benchmark_report", "report_markdown"]
