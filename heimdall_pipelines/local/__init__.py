"""The embedded PostgreSQL and S3 server for one machine: real servers out of Python wheels, on loopback."""
