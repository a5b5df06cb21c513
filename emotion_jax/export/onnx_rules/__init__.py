"""What JAX's primitives are in ONNX (opset 17): a rule each."""

from emotion_jax.export.onnx_rules import elementwise, linear, shapes

RULES = elementwise.RULES | linear.RULES | shapes.RULES
