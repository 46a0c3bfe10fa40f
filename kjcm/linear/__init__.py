"""Linear models of n-grams and embeddings: their views of a row, their training, and their files."""

ENCODER = "encoder"  # subfolder of a model folder with the encoder of its embeddings
