"""Use a trained backbone outside of training: as a network, as an ONNX graph, as features of images."""
