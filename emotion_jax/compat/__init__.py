"""The names and results of other packages: a user moves by changing an import."""
