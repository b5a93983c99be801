"""The output head's part of the one pass: logits in bounded memory, and what the scorers read from them.

At supervised position t, head input h_t, logits l_t = W h_t (+ b),
p_t = softmax(l_t), target y_t, residual e_t = p_t - onehot(y_t). The gradient of the mean-token loss
with respect to the head is G = (1/T) sum_t e_t h_t^T (and, with a bias, g = (1/T) sum_t e_t), so

    ||G||^2   = (1/T^2) sum_{t,s} (e_t . e_s) (h_t . h_s)        [+ 1 in the second factor with a bias]
    <W, G>    = (1/T) sum_t e_t . l_t  =  mean loss - mean entropy

need no backward pass. The second line holds because e_t sums to zero, so l_t may be replaced by
log p_t, and then e_t . log p_t = -entropy_t - log p_t(y_t). Where input and output embeddings are
tied, this is the gradient through the output side only.

Their arithmetic is in head_pass.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from curate.errors import CurateError

_NEUTRAL = {
    "final_logit_softcapping": (None,),
    "logit_softcapping": (None,),
    "output_logit_soft_cap": (None,),
    "logit_scale": (None, 1, 1.0),
    "logits_scaling": (None, 1, 1.0),
    "logits_scale": (None, 1, 1.0),
    "lm_head_multiplier": (None, 1, 1.0),
}
"""Fields of a model's configuration that change logits after the head, and values that do not."""


@dataclass(frozen=True)
class OutputHead:
    """The last linear map of a language model: weight [vocabulary, width], bias [vocabulary] or None."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, model: nn.Module) -> "OutputHead":
        """The head of a transformers causal language model.

        Raises CurateError if the head is not a plain linear layer in a floating dtype, or if the
        model scales, caps or otherwise changes logits after it: the formulas above would be wrong.
        """
        kind = type(model).__name__
        layer = model.get_output_embeddings()  # type: ignore[operator]
        if not isinstance(layer, nn.Linear) or not layer.weight.is_floating_point():
            raise CurateError(
                f"{kind}: the output head must be a torch.nn.Linear with a floating-point weight. "
                f"Got {type(layer).__name__}. Load the model with an unquantised, unadapted head."
            )
        config = model.config.get_text_config().to_dict()  # type: ignore[operator,union-attr]
        for name, neutral in _NEUTRAL.items():
            if config.get(name) not in neutral:
                raise CurateError(
                    f"{kind}: `{name}` must be unset, because scores of the output head are computed from "
                    f"unscaled, uncapped logits. Got {config[name]}. Score with another model."
                )
        head = cls(layer.weight.detach(), None if layer.bias is None else layer.bias.detach())
        head._check(model)
        return head

    def _check(self, model: nn.Module) -> None:
        ids = torch.arange(min(4, len(self.weight)), device=self.weight.device)[None]
        with torch.inference_mode():
            ours = nn.functional.linear(last_hidden_states(model, ids), self.weight, self.bias)
            theirs = model(input_ids=ids, use_cache=False).logits
        if not torch.allclose(
            ours.to(theirs.dtype), theirs, rtol=1e-2, atol=1e-2 * float(theirs.abs().max())
        ):
            raise CurateError(
                f"{type(model).__name__}: logits must be the output head applied to the decoder's last "
                "hidden states. Got others: the model changes them in between. Score with another model."
            )

    def norm(self) -> float:
        """Frobenius norm of the weight (and bias), accumulated in float64."""
        parts = [self.weight] if self.bias is None else [self.weight, self.bias]
        norms = [torch.linalg.vector_norm(part, dtype=torch.float64) for part in parts]
        return float(torch.stack(norms).norm())


def last_hidden_states(model: nn.Module, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
    """The input of the output head at every position, [batch, length, width], without logits.

    input_ids: int64 [batch, length], padded on the right. No mask is needed: in a causal model no
    position sees a later one. position_ids: int64 [1, length], for rows packed end to end: it starts again
    at 0 with each row, from which transformers tells them apart. Raises CurateError if the decoder cannot
    be found.
    """
    decoder = decoder_of(model)
    if position_ids is None:
        states: Tensor = decoder(input_ids=input_ids, use_cache=False).last_hidden_state
    else:
        states = decoder(input_ids=input_ids, position_ids=position_ids, use_cache=False).last_hidden_state
    return states


def decoder_of(model: nn.Module) -> nn.Module:
    """The model without its output head. Raises CurateError if there is none."""
    decoder: nn.Module = model.get_decoder()  # type: ignore[operator]
    if decoder is model:
        raise CurateError(
            f"{type(model).__name__}: no decoder without its head was found. Use a causal model."
        )
    return decoder
