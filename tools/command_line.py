"""Writes the options of every command, as argparse knows them, into docs/command-line.md.

python tools/command_line.py            after a change of an option
python tools/command_line.py --check    exits with status 1 if the page is not what argparse says
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rnnfast.cli import parser

PAGE = Path(__file__).parents[1] / "docs" / "command-line.md"
MARK = "<!-- written by tools/command_line.py from here on -->\n"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def option(action: argparse.Action) -> str:
    """The option as a user writes it."""
    value = ""
    if action.nargs != 0:
        value = "|".join(map(str, action.choices)) if action.choices else str(action.metavar or action.dest.upper())
    if not action.option_strings:
        return value
    return ", ".join(action.option_strings) + (f" {value}" if value else "")


def section(name: str, command: argparse.ArgumentParser) -> str:
    lines = [f"## {name}\n", f"{cell(command.description or '')}\n"]
    for group in command._action_groups:
        rows = [a for a in group._group_actions if not isinstance(a, argparse._SubParsersAction) and a.dest != "help"]
        if not rows:
            continue
        lines += [f"**{(group.title or '').capitalize()}**\n", "| option | meaning |", "| --- | --- |"]
        formatter = command._get_formatter()
        lines += [
            f"| `` {option(a).replace('|', chr(92) + '|')} `` | {cell(formatter._expand_help(a))} |" for a in rows
        ]
        lines.append("")
    return "\n".join(lines)


def written() -> str:
    """The whole page: what a person wrote, and the options."""
    whole = parser()
    (commands,) = (action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    sections = [section("rnnfast", whole)]
    sections += [section(f"rnnfast {name}", command) for name, command in commands.choices.items()]
    return PAGE.read_text(encoding="utf-8").partition(MARK)[0] + MARK + "\n" + "\n".join(sections)


def main() -> None:
    text = written()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == text else "run python tools/command_line.py")
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
