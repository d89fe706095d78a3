"""Files of weights: reading, recognising and writing them, and the runs that made them."""
