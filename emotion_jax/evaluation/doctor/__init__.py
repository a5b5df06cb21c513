"""What is wrong with a data set: found, shown, and left out of a clean copy."""
