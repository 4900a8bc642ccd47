"""Functions on tensors, one folder per op: public function in `__init__`, truth in `naive`, fast paths beside it."""

from semanir_plugin.ops.adaptive_sparse_attention import adaptive_sparse_attention
from semanir_plugin.ops.cosine_qkv import cosine_qkv
from semanir_plugin.ops.key_semantic_attention import key_semantic_attention
from semanir_plugin.ops.key_semantics import KeySemantics, build_key_semantics

__all__ = ["KeySemantics", "adaptive_sparse_attention", "build_key_semantics", "cosine_qkv", "key_semantic_attention"]
