"""``classify``: labels, how sure the model is of each, and which are left out for that."""
