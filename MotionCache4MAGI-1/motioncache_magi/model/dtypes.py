"""The dtypes that parameters are used in."""

import torch

_IN_FLOAT32 = ("x_embedder", "y_embedder", "t_embedder", "final_linear", "rope")
_NORMS_IN_FLOAT32 = ("q_layernorm", "k_layernorm", "self_attn_post_norm", "mlp_post_norm", "final_layernorm")


def parameter_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """Choose the dtype of a parameter, for a model that computes in `dtype`."""
    promoted = name.startswith(_IN_FLOAT32) or (
        any(norm in name for norm in _NORMS_IN_FLOAT32) and "_xattn" not in name
    )
    return torch.float32 if promoted else dtype
