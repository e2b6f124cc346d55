"""Parties on machines of their own: their keys and configuration, their service, and the client's gateway."""
