"""Folders to serve a student from: a web page, a model repository."""
