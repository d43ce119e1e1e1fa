"""The studio: a page in the browser that makes videos, shows them while they are made, and compares them."""
