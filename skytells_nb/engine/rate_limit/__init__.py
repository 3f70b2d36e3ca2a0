"""Rate limits: reported in headers, inferred from rejections and latency, or set by the user."""
