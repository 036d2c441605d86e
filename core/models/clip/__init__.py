"""Models of images and texts: two towers whose embeddings meet."""
