"""Run directories -> tidy tables -> figures -> report.pdf, report.html: `python -m analysis RUNS/STUDY --out FOLDER`.

Of `ssl_pkg` this package uses modules that load neither torch nor Hydra, such as the stage catalogue, the
presets and the readers of run directories. It needs no scheduler and no network.
"""
