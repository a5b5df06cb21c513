"""A checkpoint in use: faces are found in photographs and video, and their expressions named."""
