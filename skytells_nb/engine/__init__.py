"""Vectorized calls: each distinct input sent once, paced, retried, and stored the moment it is paid for."""
