"""Check reviewers' names: short, printable, and not a formula in a spreadsheet."""

import unicodedata

LONGEST = 64  # characters of a name
FORMULA = "=+-@"  # these begin a formula, in full width too


def reviewer(name: str) -> str:
    """Return a reviewer's name without surrounding blanks, composed (NFC).

    Raises:
        ValueError: it is empty, too long, begins like a formula, or has characters that are not printable.
    """
    found = unicodedata.normalize("NFC", name.strip(" \u3000"))
    if not found or len(found) > LONGEST:
        raise ValueError(f"a reviewer's name has 1 to {LONGEST} characters")
    if not found.isprintable():
        raise ValueError("a reviewer's name has no line breaks, tabs or other characters that are not printed")
    if unicodedata.normalize("NFKC", found).strip()[:1] in FORMULA:
        raise ValueError("a reviewer's name does not begin with = + - or @")
    return found
