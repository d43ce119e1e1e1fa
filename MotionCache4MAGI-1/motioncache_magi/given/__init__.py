"""Pictures and videos that a new video starts with, of all the kinds that people have."""
