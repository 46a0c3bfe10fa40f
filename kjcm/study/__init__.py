"""The composition roots: train, baseline, evaluate, prepare, doctor; run folders and what is written into them."""
