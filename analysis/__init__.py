"""Run directories -> tidy tables -> figures -> report.pdf: `python -m analysis RUNS/STUDY --out reports/STUDY`.

Of `ssl_pkg` this package uses only the stage catalogue, the definition of the rows, and the readers of run directories.
It needs no torch, no scheduler and no network.
"""
