"""Content moderation on this machine, and the safety fields of responses."""
