"""The functions of `import kjcm`: compose, train, sweep, list, report, and code texts from Python."""
