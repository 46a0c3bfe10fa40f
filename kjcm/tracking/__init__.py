"""What a training reports while it runs and at its end: loggers, uploads, meters and the log of epochs."""
