"""`edgetop completion`: a script for a shell that has Tab complete edgetop's command lines."""

from __future__ import annotations

import argparse

from edgetop.commands.console import write_data
from edgetop.settings.resolve import Settings

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
