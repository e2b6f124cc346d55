"""Parties on machines of their own: keys, configuration, service and client, the same for every engine."""
