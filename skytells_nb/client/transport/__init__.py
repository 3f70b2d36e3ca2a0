"""One exchange over HTTP: addresses, the key, time limits, status to error, server-sent events."""
