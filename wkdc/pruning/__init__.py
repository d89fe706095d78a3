"""Which channels to prune, and the student that is left."""
