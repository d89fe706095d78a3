"""A .pth or .onnx file as one callable, whole images, tiles and videos."""
