"""Verb config."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetop.commands.output import print_error, print_status, table, write_data, write_json
from edgetop.settings.config_file import (
    config_template,
    problems_of,
    set_in_file,
    settings_by_name,
    settings_rows,
    unset_in_file,
)
from edgetop.settings.resolve import Settings, default_config_file, setting_named


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Show, change, or print a file to begin with."""
    file = settings.config_file or default_config_file()
    if arguments.action == "set":
        _set(file, arguments.name, arguments.values)
    elif arguments.action == "unset":
        _unset(file, arguments.name)
    elif arguments.template:
        write_data(config_template())
    elif arguments.json:
        document = {"file": str(file), "exists": file.is_file(), "settings": settings_by_name(settings)}
        write_json({**document, **({"problems": problems_of(settings)} if settings.problems else {})})
    else:
        write_data(table(settings_rows(settings)))
        print_status(
            f"file: {file}{'' if file.is_file() else ' (there is none; `edgetop config --template` prints one)'}"
        )
        for problem in settings.problems:
            print_error(problem.what, problem.hint)
    return 0


def _set(file: Path, name: str, values: list[str]) -> None:
    option = setting_named(name)
    set_in_file(file, option, values)
    print_status(f"{file}: {option.section}.{option.name} is set")


def _unset(file: Path, name: str) -> None:
    option = setting_named(name)
    found = unset_in_file(file, option)
    print_status(f"{file}: {option.section}.{option.name} {'is taken out' if found else 'was not there'}")
