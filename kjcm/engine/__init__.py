"""How steps run: data and Lightning modules, padded, packed or captured in a CUDA graph, and resumed anywhere."""
