"""The doors: one package per protocol. They never import each other; what they share is `edges.context`."""
