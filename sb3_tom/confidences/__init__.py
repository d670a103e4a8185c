"""How much what a model has imagined counts: the confidences that the package brings along."""
