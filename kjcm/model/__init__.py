"""Encoders, the Lightning data module and module, and the metrics on the device."""
