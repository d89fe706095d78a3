"""Folders that serve a student: a web page, a model repository."""
