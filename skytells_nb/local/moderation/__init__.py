"""Content scoring on this machine, and the safety fields made from it."""
