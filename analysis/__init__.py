"""Run directories -> tidy tables -> figures -> report.pdf: `python -m analysis RUNS/STUDY --out reports/STUDY`.

Knows `ssl_pkg` only through the run directory (`ssl_pkg/run/directory.py`): no torch, no scheduler, no network.
"""
