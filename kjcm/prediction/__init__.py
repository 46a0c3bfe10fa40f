"""Code whole files: in one process, in shards, or on Ray."""
