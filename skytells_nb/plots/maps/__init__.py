"""Semantic maps: projections of embeddings, drawn as interactive figures."""
