"""What travels: requests, answers and safety verdicts, as pydantic models shared by client and local server."""
