"""The service's connections."""

from kjcm.review.server import Connection


class ClientConnection(Connection):
    """A connection of a program, which may keep many unused ones."""

    most_waiting = 500
