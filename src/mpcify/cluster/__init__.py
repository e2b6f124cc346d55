"""A cluster: the parties of one model, each on a machine of its own."""
