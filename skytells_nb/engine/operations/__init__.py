"""What a request does: embeddings and completions, their endpoints, and several rows in one request."""
