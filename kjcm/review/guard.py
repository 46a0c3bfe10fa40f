"""Refuse requests that are not from the review's own page and host name, or lack the token if there is one."""

import hmac

from fastapi import Request

from kjcm.web.checks import HOST, LOOPBACK, body_refusal

MOST_BYTES = 4096  # of a request's body
MOST_PORT = 65535
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def cookie(host: str) -> str:
    """Return the name of the cookie with the token."""
    return f"kjcm_token_{host.rpartition(':')[2]}"  # all ports of a host share its cookies


def refused(request: Request, served: str, token: str | None) -> tuple[int, str] | None:
    """Return the error for a forbidden request: from another site's page or host name, or without the token.

    Args:
        request: the request.
        served: host name of the server.
        token: that visitors need, None on loopback.
    """
    host = request.headers.get("host", "").lower()
    named = HOST.fullmatch(host)
    if not named or int(named["port"] or 80) > MOST_PORT:
        return 400, "The Host header is malformed."
    if named["name"].strip("[]") not in (served, *(LOOPBACK if served in LOOPBACK else ())):
        return 403, "This host name is not served."  # another site's name may point to this machine
    if request.method not in ("GET", "POST"):
        return 405, "Method not allowed."
    if request.method == "POST" and (wrong := _refused_body(request, host)):
        return wrong
    if token is None:
        return None
    given = request.query_params.get("token") or request.cookies.get(cookie(host)) or ""
    return None if hmac.compare_digest(given.encode(), token.encode()) else (401, "Give ?token=.")


def _refused_body(request: Request, host: str) -> tuple[int, str] | None:
    """Return the error for a change that is not from the page, or whose body is not small JSON."""
    if request.headers.get("origin", "").lower() != f"{request.scope['scheme']}://{host}":
        return 403, "Only the page of this server may change anything."
    return body_refusal(request.headers, MOST_BYTES)
