"""Writes `docs/settings.md`, the manual page and the completions in `share/`: `python -m docs.make_settings`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgetop.commands.completion import SCRIPTS
from edgetop.commands.man import manual_page
from edgetop.settings import options
from edgetop.settings.config_file import NOT_SET, in_words, shown
from edgetop.settings.option import SECTIONS, TITLES, Option
from edgetop.settings.resolve import is_of_file

FILE = Path(__file__).with_name("settings.md")
HEAD = """\
# Settings

Each setting is a flag, a variable of the environment and a key of the configuration file, `config.toml` in your
configuration folder. A flag comes before the environment, the environment before the file, the file before the default.

    edgetop config                     what holds, and why
    edgetop config set theme light     writes into the file, and leaves your comments where they are
    edgetop config unset theme
    edgetop config --template          a file with every setting in a comment

In the screen, F2 shows and changes them. This page is made from the program's own table
(`python -m docs.make_settings`). The table `[keys]` of the file gives the screens other keys; `edgetop keys`
lists their actions.
"""


def page() -> str:
    """The page as Markdown."""
    return "\n".join([HEAD, *_sections()])


def _sections() -> Iterator[str]:
    for section in SECTIONS:
        title = TITLES[section]
        yield f"## {title[:1].upper()}{title[1:]}: `[{section}]`\n"
        for option in options.OPTIONS:
            if option.section == section:
                yield _entry(option)


def _entry(option: Option[object]) -> str:
    flags = ", ".join(f"`{f'{flag} {option.metavar}'.strip()}`" for flag in option.flags)
    ways = [flags] if flags else []
    ways += [f"`{option.env}`"] if is_of_file(option) or not option.flag_only else []
    default = shown(option.default)
    ways += [f"default {default}"] if default not in {NOT_SET, "none"} else []
    words = escaped(f"{in_words(option)} {option.about}".strip())
    return f"**{option.name}**: {', '.join(ways)}  \n{words}\n"


def escaped(text: str) -> str:
    """Angle brackets, stars and underscores mean themselves outside of backquotes."""
    parts = text.split("`")
    for index in range(0, len(parts), 2):
        for character in "*_<>[]":
            parts[index] = parts[index].replace(character, f"\\{character}")
    return "`".join(parts)


def written() -> dict[Path, str]:
    """Every file that is made from the tables of verbs and options, with what is to be in it."""
    share = FILE.parents[1] / "share"
    names = {"bash": "edgetop.bash", "zsh": "_edgetop", "fish": "edgetop.fish"}
    scripts = {share / names[shell]: script for shell, script in SCRIPTS.items()}
    return {FILE: page(), share / "edgetop.1": manual_page(), **scripts}


if __name__ == "__main__":
    for file, text in written().items():
        file.write_text(text, encoding="utf-8")
