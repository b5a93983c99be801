"""Merging: models that were tuned apart from one start, as one model whose parameters are their average.

theta = sum_j w_j theta_j, with w on the simplex; the uniform average has w_j = 1/k. Because each theta_j is
theta_0 plus an update, it is the average of the updates that is added to the common start.

LoRA. An update is the product s B A, and it is the products that are averaged, exactly: the factors are laid
side by side, B = [w_1 s_1 B_1 | w_2 s_2 B_2 …], A = [A_1; A_2; …], of rank r_1 + r_2 + … and scale 1. The
average of the A times the average of the B is another matrix.

Cost: one pass over the files, O(parameters) time, the memory of one file per model.
Source: Wortsman et al. 2022 (model soups, arXiv 2203.05482); Na et al. 2024 (arXiv 2410.15661).
"""

import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curate.errors import CurateError

State = Mapping[str, Tensor]
"""Name of a parameter -> its values."""

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
PLAIN_STARTS = (True, False, "gaussian", "orthogonal")
"""Values of peft's `init_lora_weights` that leave the base weights as they are."""


def average(states: Sequence[State], weights: Sequence[float]) -> dict[str, Tensor]:
    """The weighted average of models, tensor by tensor, added up in float64, in each tensor's own dtype.

    weights: one per model, at least 0, with sum 1. What counts and does not measure (integer and boolean
    buffers: positions, numbers of batches) is not averaged; it is the first model's.
    Raises ValueError for other weights, CurateError where names or shapes differ, naming them.
    """
    _check_weights(weights, len(states))
    _check_names(states)
    return {
        name: _mean([state[name] for state in states], weights) if first.is_floating_point() else first
        for name, first in states[0].items()
    }


def low_rank_average(
    states: Sequence[State], scales: Sequence[float], weights: Sequence[float]
) -> dict[str, Tensor]:
    """The LoRA update that is the weighted average of the updates s_j B_j A_j, exactly, in factors of scale 1.

    states: by peft's names, `….lora_A.weight` [r_j, in] and `….lora_B.weight` [out, r_j]; ranks may differ.
    scales: s_j, alpha / r or alpha / sqrt r. weights: as for `average`; one of weight 0 adds no rank.
    Raises ValueError for other weights, CurateError where layers differ, or for parameters that are no factors.
    """
    _check_weights(weights, len(states))
    _check_names(states, shapes=False)
    strange = [name for name in states[0] if not _is_factor(name, "A") and not _is_factor(name, "B")]
    if strange:
        raise CurateError(
            f"merging: adapters must hold low-rank factors alone. Found {_some(strange)}, of which the average "
            "of the updates is not made. Train without `use_dora`."
        )
    counted = [place for place, weight in enumerate(weights) if weight > 0]
    merged = {}
    for name, first in states[0].items():
        if _is_factor(name, "A"):
            merged[name] = torch.cat([states[place][name] for place in counted], dim=0)
        else:
            parts = [states[place][name].double() * (weights[place] * scales[place]) for place in counted]
            merged[name] = torch.cat(parts, dim=1).to(first.dtype)
    return merged


def merge(folders: Sequence[Path], weights: Sequence[float], out: Path) -> None:
    """Write into the empty folder `out` the average of what trainings wrote: adapters, or whole models.

    folders: as `Adapter.save` leaves them, all adapters or all models, tuned from one base model. `out` loads
    as each of them does. Raises as `average`; CurateError for adapters other than plain LoRA.
    """
    if all((folder / ADAPTER_CONFIG).exists() for folder in folders):
        _merge_adapters(folders, weights, out)
    elif all((folder / "config.json").exists() for folder in folders):
        _merge_models(folders, weights, out)
    else:
        raise CurateError(
            f"{folders[0].parent}: must hold adapters alone, or whole models alone. Train again."
        )


def _merge_adapters(folders: Sequence[Path], weights: Sequence[float], out: Path) -> None:
    configs = [json.loads((folder / ADAPTER_CONFIG).read_text()) for folder in folders]
    scales = [_scale(config, folder) for config, folder in zip(configs, folders, strict=True)]
    merged = low_rank_average([_load(folder / ADAPTER) for folder in folders], scales, weights)
    rank = sum(config["r"] for config, weight in zip(configs, weights, strict=True) if weight > 0)
    plain = {"r": rank, "lora_alpha": rank, "use_rslora": False, "lora_dropout": 0.0}
    text = json.dumps({**configs[0], **plain, "init_lora_weights": True}, indent=2, sort_keys=True)
    (out / ADAPTER_CONFIG).write_text(text + "\n")
    _save(merged, out / ADAPTER)


def _scale(config: Mapping[str, Any], folder: Path) -> float:
    """What an adapter multiplies B A by. Raises CurateError where its update is more than that product."""
    wrong = [
        name for name in ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save") if config[name]
    ]
    if config["peft_type"] != "LORA" or config["bias"] != "none":
        wrong.append("peft_type" if config["peft_type"] != "LORA" else "bias")
    if config["init_lora_weights"] not in PLAIN_STARTS:
        wrong.append("init_lora_weights")
    if wrong:
        told = ", ".join(f"{name}: {config[name]!r}" for name in wrong)
        raise CurateError(
            f"{folder}: to be merged, an adapter must be plain LoRA, an update B A beside untouched weights. "
            f"Got {told}."
        )
    rank = math.sqrt(config["r"]) if config["use_rslora"] else config["r"]
    return float(config["lora_alpha"] / rank)


def _merge_models(folders: Sequence[Path], weights: Sequence[float], out: Path) -> None:
    files = [sorted(path.name for path in folder.glob("*.safetensors")) for folder in folders]
    if any(names != files[0] for names in files):
        raise CurateError(
            f"{folders[0].parent}: models must lie in files of the same names. Train them again."
        )
    for path in folders[0].iterdir():
        if path.is_file() and path.name not in files[0]:
            shutil.copyfile(path, out / path.name)
    for name in files[0]:
        _save(average([_load(folder / name) for folder in folders], weights), out / name)


def _mean(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = torch.zeros(tensors[0].shape, dtype=torch.float64)
    for tensor, weight in zip(tensors, weights, strict=True):
        total += weight * tensor.double()
    return total.to(tensors[0].dtype)


def _check_weights(weights: Sequence[float], models: int) -> None:
    if not models or len(weights) != models:
        raise ValueError(f"there must be a weight for each model. Got {len(weights)} for {models}.")
    if min(weights) < 0 or not math.isclose(math.fsum(weights), 1.0, rel_tol=1e-9):
        raise ValueError(f"weights must be at least 0 and have sum 1. Got {list(weights)}.")


def _check_names(states: Sequence[State], shapes: bool = True) -> None:
    first = states[0]
    for number, other in enumerate(states[1:], start=2):
        if different := first.keys() ^ other.keys():
            raise CurateError(
                f"merging: models must have the same parameters. Model 1 and model {number} differ in "
                f"{_some(different)}. Tune them from one base model, with one adapter setting."
            )
        wrong = [name for name in first if shapes and first[name].shape != other[name].shape]
        if wrong:
            raise CurateError(
                f"merging: parameters must have the same shapes. Model 1 and model {number} differ in {_some(wrong)}."
            )


def _is_factor(name: str, factor: str) -> bool:
    return name.endswith((f".lora_{factor}.weight", f".lora_embedding_{factor}"))


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - 4} more" if len(ordered) > 4 else ""
    return ", ".join(f"`{name}`" for name in ordered[:4]) + more


def _load(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    read: Callable[..., dict[str, Tensor]] = load_file
    return read(path)


def _save(state: State, path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, metadata={"format": "pt"})
