"""The model objectives of this package, and what they share."""
