"""Verb completion, and what each Tab asks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from edgetop.commands.command_line import OPTION_PREFIX, actions_of, is_of_setting, parser_of, sub_parsers
from edgetop.commands.output import write_data
from edgetop.commands.verbs import VERBS
from edgetop.core.format import format_time
from edgetop.core.text import distinct, one_line
from edgetop.io.ssh import configured_hosts
from edgetop.settings import options
from edgetop.settings.option import Option
from edgetop.settings.resolve import Settings, resolve

BASH = """\
# edgetop in bash. In ~/.bashrc:  source <(edgetop completion bash)
_edgetop() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :files) compopt -o filenames 2>/dev/null
                while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}") ;;
            :folders) compopt -o filenames 2>/dev/null
                while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -d -- "${COMP_WORDS[COMP_CWORD]}") ;;
            *) COMPREPLY+=("$line") ;;
        esac
    done < <("${COMP_WORDS[0]}" __complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _edgetop edgetop
"""

ZSH = """\
#compdef edgetop
# edgetop in zsh. In ~/.zshrc behind compinit:  source <(edgetop completion zsh)
_edgetop() {
    local line directive
    local -a found
    while IFS= read -r line; do
        case $line in
            :files|:folders) directive=$line ;;
            *$'\\t'*) found+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}") ;;
            *) found+=("${line//:/\\\\:}") ;;
        esac
    done < <("${words[1]}" __complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( ${#found} )) && _describe 'edgetop' found
    case $directive in
        :files) _files ;;
        :folders) _files -/ ;;
    esac
}
compdef _edgetop edgetop
"""

FISH = """\
# edgetop in fish. Once:  edgetop completion fish > ~/.config/fish/completions/edgetop.fish
function __edgetop_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    for line in ($before[1] __complete fish $before[2..-1] "$current" 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path "$current"
            case ':folders'
                __fish_complete_directories "$current"
            case '*'
                echo $line
        end
    end
end
complete -c edgetop -f -a '(__edgetop_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def execute(arguments: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001 - as every verb
    """Print the script."""
    write_data(SCRIPTS[arguments.shell])
    return 0


FILES, FOLDERS = ":files", ":folders"
"""Lines that have the shell itself add the names of files or of folders."""

_SETTINGS = {f"{OPTION_PREFIX}{option.name}": option for option in options.OPTIONS}


class Candidate(NamedTuple):
    """One word, or FILES or FOLDERS, and what it is."""

    text: str
    about: str = ""


def print_candidates(given: Sequence[str]) -> int:
    """Print the candidates for `SHELL WORD ... CURRENT`, one a line with what it is behind a tab."""
    shell, *words = given or ["", ""]
    cut = 0
    if shell == "bash":
        words, cut = _rejoined(words)
    try:
        found = candidates(words[:-1], words[-1] if words else "")
    except Exception:  # noqa: BLE001 - a Tab must never bring a trace onto the command line
        found = []
    for candidate in found:
        if not candidate.text.isprintable():
            continue
        text = candidate.text if candidate.text in {FILES, FOLDERS} else candidate.text[cut:]
        about = "" if shell == "bash" or not candidate.about else f"\t{one_line(candidate.about)}"
        sys.stdout.write(f"{text}{about}\n")
    return 0


def candidates(words: Sequence[str], current: str) -> list[Candidate]:
    """What `current`, behind `words` of a command line without the program's name, can become."""
    named = words[0] if words and words[0] in VERBS else ""
    position = _LinePosition(parser_of(named))
    for word in words[1 if named else 0 :]:
        position.go_past(word)
    if not words and not current.startswith("-"):
        return _beginning(current, (Candidate(name, verb.help) for name, verb in VERBS.items()))
    if position.waiting is not None:
        return _beginning(current, _values(position.waiting, position))
    if current.startswith("-"):
        flag, equals, value = current.partition("=")
        if not equals:
            return _beginning(current, position.flags())
        action = position.action_of(flag)
        found = _beginning(value, _values(action, position)) if action is not None else []
        return [each if each.text in {FILES, FOLDERS} else Candidate(f"{flag}={each.text}") for each in found]
    return _beginning(current, position.words())


class _LinePosition:
    """Where on the command line we are, as the parser would have it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser
        self.waiting: argparse.Action | None = None
        """The flag whose value comes next."""
        self.past: list[str] = []
        """Words that are no flags and no values of flags, since the last one that chose a parser."""

    def go_past(self, word: str) -> None:
        if self.waiting is not None:
            if word != "=":
                self.waiting = None
        elif word.startswith("-") and len(word) > 1:
            action = self.action_of(word)
            self.waiting = action if action is not None and action.nargs != 0 else None
        else:
            chosen = {name: parser for name, _, parser in sub_parsers(self.parser)}
            if word in chosen and not self.past:
                self.parser = chosen[word]
            else:
                self.past.append(word)

    def action_of(self, flag: str) -> argparse.Action | None:
        return next((action for action in actions_of(self.parser) if flag in action.option_strings), None)

    def flags(self) -> Iterable[Candidate]:
        for action in actions_of(self.parser):
            if action.option_strings and action.help != argparse.SUPPRESS:
                yield Candidate(action.option_strings[-1], (action.help or "").replace("%%", "%"))
        yield Candidate("--help", "show what there is, and leave")

    def words(self) -> Iterable[Candidate]:
        if not self.past:
            yield from (Candidate(name, about) for name, about, _ in sub_parsers(self.parser))
        positionals = [action for action in actions_of(self.parser) if not action.option_strings]
        if positionals:
            action = positionals[min(len(self.past), len(positionals) - 1)]
            takes_one = action.nargs in {None, "?"} and len(self.past) >= len(positionals)
            yield from () if takes_one else _values(action, self)


def _values(action: argparse.Action, position: _LinePosition) -> Iterable[Candidate]:
    """What can stand for an argument, as far as that is known."""
    if action.choices is not None:
        return [Candidate(str(choice)) for choice in action.choices]
    if is_of_setting(action):
        return _of_setting(_SETTINGS[action.dest])
    if position.parser.prog.startswith("edgetop config"):
        if action.dest == "name":
            return [Candidate(option.name, option.help) for option in options.OPTIONS if not option.flag_only]
        named = {option.name: option for option in options.OPTIONS}.get(position.past[0] if position.past else "")
        return [] if named is None else _of_setting(named)
    if action.dest == "device" and position.parser.prog == "edgetop check":
        return _devices()
    return _of_kind(action.metavar if isinstance(action.metavar, str) else "")


def _of_setting(option: Option[object]) -> Iterable[Candidate]:
    if option.choices:
        return [Candidate(choice) for choice in option.choices]
    if option.is_switch:
        return [Candidate("true"), Candidate("false")]
    if option is options.THEME:
        from edgetop.tui.themes import theme_files  # noqa: PLC0415 - each Tab pays for what is imported

        return [Candidate(name) for name in theme_files()]
    return _of_kind(option.metavar)


def _of_kind(metavar: str) -> Iterable[Candidate]:
    makers: dict[str, Callable[[], Iterable[Candidate]]] = {
        "FILE": lambda: [Candidate(FILES)],
        "FOLDER|FILE": lambda: [Candidate(FILES)],
        "DIR": lambda: [Candidate(FOLDERS)],
        "MODEL": _models,
        "SESSION": _sessions,
        "HOST": lambda: map(Candidate, configured_hosts()),
    }
    return makers[metavar]() if metavar in makers else []


def _models() -> Iterable[Candidate]:
    from edgetop.inference.catalog import find_models  # noqa: PLC0415 - each Tab pays for what is imported

    for model in find_models(_settings()[options.MODEL_DIR]):
        yield Candidate(model.name, model.origin)
    yield Candidate(FILES)


def _sessions() -> Iterable[Candidate]:
    from edgetop.commands.inputs import open_store  # noqa: PLC0415 - each Tab pays for what is imported

    tags: dict[str, int] = {}
    for listed in open_store(_settings()).labels():
        if (head := listed.head) is not None:
            models = distinct(f"{load.model.name} {load.model.quantization}" for load in head.loads)
            yield Candidate(str(listed.number), f"{format_time(head.started_at)} {models}".rstrip())
            for tag in head.tags:
                tags[tag] = tags.get(tag, 0) + 1
    yield from (Candidate(tag, f"tag of {count}") for tag, count in tags.items())
    yield Candidate(FILES)


def _devices() -> Iterable[Candidate]:
    from edgetop.fit.devices import load_devices  # noqa: PLC0415 - each Tab pays for what is imported

    return [Candidate(name) for name in (*load_devices(), "list")]


def _settings() -> Settings:
    return resolve({})


def _beginning(current: str, found: Iterable[Candidate]) -> list[Candidate]:
    return [each for each in found if each.text.startswith(current) or each.text in {FILES, FOLDERS}]


def _rejoined(words: Sequence[str]) -> tuple[list[str], int]:
    """The words with those together that bash takes apart at a colon, and how much of the last it does not replace.

    An equals sign stays a word of its own between a flag and its value.
    """
    whole: list[str] = []
    joins = False
    for word in words:
        if (word == ":" or joins) and whole:
            whole[-1] += word
        else:
            whole.append(word)
        joins = word == ":"
    if len(whole) > 1 and whole[-1] == "=":
        whole.append("")
    last = whole[-1] if whole else ""
    return whole, last.rfind(":") + 1
