"""What `distill` and `train` share: recipes, losses, the loop, and the run folder."""
