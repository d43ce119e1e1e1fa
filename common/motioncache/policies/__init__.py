"""The policies of all models."""
