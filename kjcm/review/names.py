"""Check reviewers' names and comments: short, printable, and not a formula in a spreadsheet."""

import unicodedata

LONGEST = 64  # characters of a name
LONGEST_COMMENT = 500
FORMULA = "=+-@"  # these begin a formula, in full width too


def reviewer(name: str) -> str:
    """Return a reviewer's name without surrounding blanks, composed (NFC).

    Raises:
        ValueError: it is empty, too long, begins like a formula, or has characters that are not printable.
    """
    return _plain(name, "a reviewer's name", LONGEST)


def comment(text: str) -> str:
    """Return a comment without surrounding blanks, composed (NFC).

    Raises:
        ValueError: see `reviewer`.
    """
    return _plain(text, "a comment", LONGEST_COMMENT)


def _plain(text: str, what: str, longest: int) -> str:
    found = unicodedata.normalize("NFC", text.strip(" \u3000"))
    if not found or len(found) > longest:
        raise ValueError(f"{what} has 1 to {longest} characters")
    if not found.isprintable():
        raise ValueError(f"{what} has no line breaks, tabs or other characters that are not printed")
    if unicodedata.normalize("NFKC", found).strip()[:1] in FORMULA:
        raise ValueError(f"{what} does not begin with = + - or @")
    return found
