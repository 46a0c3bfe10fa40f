"""kjcm compared with its alternatives: the same work, timed in turn on the same machine."""
