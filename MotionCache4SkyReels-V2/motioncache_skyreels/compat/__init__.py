"""The published code where it is known to be wrong. Nothing of the product imports it."""
