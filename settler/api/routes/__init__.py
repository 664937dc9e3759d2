"""The handlers, a file a kind of object: read the request, do one transaction, answer what `storage` shows."""
