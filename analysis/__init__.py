"""Run directories -> tidy tables -> figures -> report.pdf: `python -m analysis RUNS/STUDY --out reports/STUDY`.

Knows `ssl_pkg` only through the run directory (`ssl_pkg/runs.py`): no torch, no scheduler, no network.
"""
