"""Many photos at once: which files are read, and where their results go."""
