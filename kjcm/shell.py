"""Command lines that can be pasted into a shell."""

import re
import shlex
from collections.abc import Iterable

EQUALS = re.compile(r"(^|[=:])=")  # zsh replaces `=NAME` by the path of the command NAME


def quote(word: str) -> str:
    """Return one argument of a command, quoted so that sh, bash and zsh read it unchanged."""
    if "'" in word and not set('"$`\\!') & set(word):
        return f'"{word}"'
    return f"'{word}'" if EQUALS.search(word) and shlex.quote(word) == word else shlex.quote(word)


def command_line(words: Iterable[str]) -> str:
    """Return a command's arguments as one line that sh, bash and zsh read unchanged."""
    return " ".join(map(quote, words))
