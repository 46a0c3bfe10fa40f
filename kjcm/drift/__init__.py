"""Compare a file with the held-out rows of a run's promise, and check the promise on an audit sample."""
