"""Where runs execute: on this machine, or in workers on many machines that share only PostgreSQL, S3 and Redis."""
