"""Every config key, defined once: its type, the values it allows, its help, and its part in a run's identity.

conf/ has the values. docs/config.md and `--help` are generated from here.
"""
