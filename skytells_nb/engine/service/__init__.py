"""What a service accepts and counts, as its responses show: learned once and kept beside the cache."""
