"""Record a training while it runs and at its end: loggers, uploads, speed measurements, and the log of epochs."""
