"""What is passed between rooms: typed, frozen, without I/O."""
