"""The chat panel: a conversation with a model under a cell."""
