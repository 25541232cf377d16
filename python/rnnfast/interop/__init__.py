"""Networks that come in from other frameworks' files and modules, and go out to ONNX."""
