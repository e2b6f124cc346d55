"""The client's gateway: the organisation's programs ask the private model by HTTP, on the client's own loopback."""
