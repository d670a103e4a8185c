"""The weighters of this package, and what they share."""
