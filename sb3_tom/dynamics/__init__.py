"""The dynamics models of this package, and what they share."""
