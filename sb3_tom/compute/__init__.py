"""Speed without other results: chunks, matrix products, CUDA graphs."""
