"""How a step is run fast: texts packed without padding, attention over them, and steps captured in a CUDA graph."""
