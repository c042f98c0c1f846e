"""The only code that speaks SQL or S3; takes and returns plain frozen dataclasses."""
