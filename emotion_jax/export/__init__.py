"""A trained model for other runtimes, held to what JAX makes of the same images."""
