"""How the whole deployment is: servers, runs, datasets, sessions, checks and storage, gathered and judged."""
