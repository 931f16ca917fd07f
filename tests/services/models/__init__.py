"""The model registry before a model server of the test's own: ONNX Runtime in this process."""
