"""How the numbers are made again: the commands of the runs, and where each table and figure has its numbers."""

import datetime
from collections.abc import Sequence

from analysis import commands
from analysis.blocks import Block, Section, command
from analysis.study import Study
from analysis.words import _
from ssl_pkg.catalogue import STAGES


def section(study: Study, date: datetime.date, *, thumbnails: bool = False) -> Section:
    """The command of one run of each stage, and that of the report."""
    made = Section(_("Commands"))
    found = commands.table(study).drop_duplicates("stage")
    report = commands.of_report(study, date, thumbnails=thumbnails)
    made.text(
        _(
            "Below each table and figure are the CSV file with its numbers, in the folder of this report, and the "
            "stages whose runs computed them. This table has the command of one run of each stage, which computes the "
            "run again in a new folder. The commands of the other runs differ in method, source and seed; all are in "
            "tables/commands.csv. They are started in a clone of the repository at the commit of the section "
            "“Provenance”. The last one makes this report again from the run directories."
        )
        if len(found)
        else _("The commands of the runs are not known, because the study has no usable plan.json.")
    )
    rows: list[list[str | Block]] = [
        [stage, command(line)] for stage, line in zip(found["stage"], found["command"], strict=True)
    ]
    rows.append([_("report"), command(report)])
    caption = _("One run of each stage, and the report.")
    made.table("repeating", [_("Stage"), _("Command")], rows, caption, left=2, widths=[1, 6])
    return made


def origin(study: Study, csv: str, stages: Sequence[str]) -> str:
    """The sentence below a table or figure: its CSV, and the stages whose commands compute its numbers again."""
    started = [stage for stage in STAGES if stage in stages and study.of(stage)]
    parts = [_("Numbers: {csv}.", csv=csv)] if csv else []
    parts += [_("Commands: {stages}.", stages=", ".join(started))] if started else []
    return " ".join(parts)
