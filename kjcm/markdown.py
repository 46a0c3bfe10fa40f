"""Texts in Markdown files: nothing in a title or a name may become markup."""

import re

SPECIAL = re.compile(r"[\\`*_\[\]<>|~&$]")


def escaped(text: str) -> str:
    """Return a text that Markdown shows verbatim, on one line."""
    return "<br>".join(SPECIAL.sub(r"\\\g<0>", text).splitlines())
