"""The service's connections."""

from kjcm.web.server import Connection


class ClientConnection(Connection):
    """A connection of a program, which may keep many unused ones."""

    most_waiting = 500
