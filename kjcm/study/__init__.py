"""The composition roots: train, evaluate, prepare, doctor; run folders and what is written into them."""
