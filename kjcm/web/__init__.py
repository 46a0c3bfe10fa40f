"""The HTTP server of `kjcm review` and `kjcm serve`, and what both check of a request before they read it."""
