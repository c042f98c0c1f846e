"""Status of the whole deployment: servers, runs, datasets, sessions, checks and storage."""
