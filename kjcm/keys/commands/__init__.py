"""The config keys of each command."""
