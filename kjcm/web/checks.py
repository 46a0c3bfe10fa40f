"""Checks of a request before an app reads it: its host name, and the size and kind of its body."""

import re
from collections.abc import Mapping

LOOPBACK = ("127.0.0.1", "localhost", "::1")  # hosts that only this machine reaches
HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[\w.-]+)(:(?P<port>[0-9]{1,5}))?", re.ASCII)
LENGTH = 10  # digits of a Content-Length that are read


def body_refusal(headers: Mapping[str, str], most_bytes: int) -> tuple[int, str] | None:
    """Return status and detail for a body that is too long or not JSON; None if the body may be read."""
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        return 411, "Send a Content-Length."
    if len(length) > LENGTH or int(length) > most_bytes:
        return 413, f"The body has more than {most_bytes:,} bytes. Send less at a time."
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        return 415, "Send application/json."
    return None
