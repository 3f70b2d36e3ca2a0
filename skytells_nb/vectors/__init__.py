"""Numerical code on matrices of embeddings: neighbors, k-means, near duplicates, principal components."""
