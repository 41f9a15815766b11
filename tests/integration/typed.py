"""Checks command lines that documents and help texts advise, without running them."""

import argparse
from collections.abc import Sequence
from unittest import mock

import pytest

import ssl_study_commands
from jobs.command_line import parse
from jobs.plan.settings import configure
from ssl_pkg.console import Parser

OWN_PARSERS = ("pack", "predict", "data", "report")  # commands that jobs.command_line does not parse


class _Parsed(Exception):
    """The command line is right."""


def check_command(words: list[str]) -> None:
    """Raises BadInput or SystemExit if `ssl-study WORDS` would be refused whatever there is on disk."""
    if len(words) == 1:  # a mention of a command, without its arguments
        with pytest.raises(SystemExit, match="0"):
            ssl_study_commands.main([*words, "--help"])
        return
    if words[0] in OWN_PARSERS:
        read = Parser.read

        def stop(parser: Parser, arguments: Sequence[str]) -> None:
            read(parser, arguments)
            raise _Parsed

        with mock.patch.object(Parser, "read", stop), pytest.raises(_Parsed):
            ssl_study_commands.main(words)
        return
    words = [
        "synthetic" if word == "…" and before == "--data" else word
        for before, word in zip(["", *words], words, strict=False)
    ]
    options = argparse.Namespace()
    overrides = parse([word for word in words if word != "…"], options)
    if options.command in ("demo", "study", "submit"):
        study = "demo" if options.study == "STUDY" else options.study
        configure(study, data="synthetic", seeds=options.seeds, overrides=overrides)
