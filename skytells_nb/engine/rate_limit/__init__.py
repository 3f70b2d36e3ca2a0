"""Who may send when: limits from headers, from refusals, from latency, or set by the user."""
