"""Images, label maps, videos and data sets: where they come from and how they are read."""
