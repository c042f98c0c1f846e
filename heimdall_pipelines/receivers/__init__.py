"""Clients that fetch IQ from live receivers; one class for each kind."""
