"""Run directories -> tidy tables -> figures -> report.pdf, report.html: `python -m analysis RUNS/STUDY --out FOLDER`.

Of `ssl_pkg` this package uses only the stage catalogue, the definition of the rows, and the readers of run directories.
It needs no torch, no scheduler and no network.
"""
