"""`ssl_study_commands` and `jobs` list the same commands."""

import argparse

import jobs.__main__
import jobs.command_line
import ssl_study_commands
from ssl_pkg.messages.program import COMMANDS


def test_every_command_of_jobs_is_a_command_of_ssl_study() -> None:
    elsewhere = {"report", "pack", "predict", "data"}
    assert all(callable(getattr(ssl_study_commands, f"_{name}")) for name in elsewhere)
    assert set(jobs.command_line._EXAMPLES) == COMMANDS.keys() - elsewhere


def test_every_command_of_jobs_has_options_and_a_function() -> None:
    (parsers,) = (each for each in jobs.command_line._parser()._actions if isinstance(each, argparse._SubParsersAction))
    starting, others = jobs.__main__._STARTING, jobs.__main__._OTHERS
    assert set(parsers.choices) == {*starting, *others} == set(jobs.command_line._EXAMPLES)
    takes_overrides = {name for name, parser in parsers.choices.items() if "key=value" in (parser.usage or "")}
    assert set(starting) == takes_overrides
    assert takes_overrides == {name for name, parser in parsers.choices.items() if "--seeds" in parser.format_help()}
