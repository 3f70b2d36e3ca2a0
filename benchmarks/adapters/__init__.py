"""One module a library; ``contract.py`` says what is in it."""
