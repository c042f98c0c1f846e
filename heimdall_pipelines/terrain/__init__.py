"""Terrain: tiles of heights, the ground that scenes use, and pictures of it."""
