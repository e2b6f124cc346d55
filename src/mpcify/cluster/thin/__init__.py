"""A client that is no party: it shares its inputs between a delegate and the owner, over HTTP."""
