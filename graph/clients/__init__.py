"""The outside services, one file each; what goes wrong with one is a ``ServiceError`` (``graph.clients.errors``)."""
