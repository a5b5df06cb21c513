"""The same network in other frameworks, each imported in a process of its own."""
