"""Formats of phones and small devices: LiteRT, Core ML and ncnn, each in a module of its own."""
