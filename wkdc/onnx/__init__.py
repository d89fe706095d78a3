"""ONNX files: writing, rewriting, checking and running them."""
