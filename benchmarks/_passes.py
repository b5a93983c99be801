"""What score.py and gpu_score.py compare the one pass with, and how they time it. Needs torch and numpy alone."""

import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curate.model.batches import pad
from curate.model.forward import Layout, plan_batches
from curate.model.request import TokenRow

LOGITS_BYTES = 16 << 30

Way = Callable[[], object]


@dataclass
class Measured:
    """Seconds of each repeat, and the peak memory in bytes: on a GPU of the way itself, the model included;
    on a CPU of the process, at any time so far."""

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def median(self) -> float:
        """The median of the repeats, seconds."""
        return statistics.median(self.seconds)


def alternate(
    ways: Mapping[str, Way],
    repeats: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Measured]:
    """Each way once to warm up, then `repeats` times, in turn; on a GPU until its work is done."""
    on_gpu = device.type == "cuda"
    found = {name: Measured() for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            if on_gpu:
                torch.cuda.synchronize(device)
                torch.cuda.reset_peak_memory_stats(device)
            started = clock()
            way()
            if on_gpu:
                torch.cuda.synchronize(device)
            passed = clock() - started
            peak = torch.cuda.max_memory_allocated(device) if on_gpu else resident_peak()
            found[name].peak_bytes = max(found[name].peak_bytes, peak)
            if repeat:
                found[name].seconds.append(passed)
    return found


def resident_peak() -> int:
    """The most memory that this process has held so far, bytes (on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@dataclass(frozen=True)
class BareBatch:
    """A batch that lies ready on the device.

    arguments: of the model's forward. before: int64 [targets], in the flattened ids, of the token before each.
    """

    arguments: dict[str, Any]
    before: Tensor
    lengths: list[int]


def bare_batches(
    model: Any, rows: Sequence[TokenRow], batch_tokens: int, layout: Layout, lean: bool
) -> list[BareBatch]:
    """The batches of the one pass, for a forward without scores.

    Padded: only as wide as the longest row, and with a mask. Packed: with positions, that tell rows apart.
    lean: no mask, and rows end before their last target.
    """
    targets = [np.flatnonzero(row.supervised[1:]) for row in rows]
    ends = [int(at[-1]) + 1 if len(at) else 1 for at in targets]
    ids = [row.input_ids[:end] if lean else row.input_ids for row, end in zip(rows, ends, strict=True)]
    lengths = [len(each) for each in ids]
    batches = []
    for places in plan_batches(model, lengths, batch_tokens, layout):
        batch = places.tolist()
        arguments: dict[str, Any] = {"use_cache": False}
        if layout == "packed":
            joined = np.concatenate([ids[row] for row in batch]).astype(np.int64)
            positions = np.concatenate([np.arange(lengths[row]) for row in batch])
            arguments["input_ids"] = torch.from_numpy(joined)[None].to(model.device)
            arguments["position_ids"] = torch.from_numpy(positions)[None].to(model.device)
            starts = np.cumsum([0, *(lengths[row] for row in batch[:-1])])
        else:
            padded, mask = pad([ids[row] for row in batch], pad_id=0)
            arguments["input_ids"] = padded.to(model.device)
            if not lean:
                arguments["attention_mask"] = mask.to(model.device)
            starts = np.arange(len(batch)) * padded.shape[1]
        before = np.concatenate([start + targets[row] for start, row in zip(starts, batch, strict=True)])
        batches.append(
            BareBatch(arguments, torch.from_numpy(before).to(model.device), [lengths[row] for row in batch])
        )
    return batches


def logits_bytes(model: Any, batch: BareBatch) -> int:
    """What the logits of all positions of a batch take."""
    weight = model.get_output_embeddings().weight
    return int(batch.arguments["input_ids"].numel() * weight.shape[0] * weight.itemsize)


@torch.inference_mode()
def bare(model: Any, batches: Sequence[BareBatch], most: int = LOGITS_BYTES) -> None:
    """Logits at every position, as public scorers call the model; in chunks where they take more than `most` bytes."""
    for batch in batches:
        needed = logits_bytes(model, batch)
        if needed <= most:
            model(**batch.arguments)
            continue
        states = model.get_decoder()(**batch.arguments).last_hidden_state.flatten(0, 1)
        for part in torch.split(states, max(1, len(states) * most // needed)):
            model.get_output_embeddings()(part)


@torch.inference_mode()
def bare_lean(model: Any, batches: Sequence[BareBatch], most: int = LOGITS_BYTES) -> None:
    """Logits where a target follows, at most `most` bytes of them at once."""
    head = model.get_output_embeddings()
    tokens = max(1, most // (head.weight.shape[0] * head.weight.itemsize))
    for batch in batches:
        states = model.get_decoder()(**batch.arguments).last_hidden_state.flatten(0, 1)
        for part in torch.split(states[batch.before], tokens):
            head(part)


def one_at_a_time(model: Any, method: str, rows: Sequence[TokenRow], head_only: bool) -> None:
    """One method over all rows, batch size 1, as public scorers are written.

    method: loss, perplexity, ifd, entropy, el2n, donod or grand; the last two take the head's gradient.
    head_only: by autograd through the head alone, else by `loss.backward()`, for which the head must require
    a gradient.
    """
    head = model.get_output_embeddings()
    for row in rows:
        ids = torch.from_numpy(row.input_ids.astype(np.int64))[None].to(model.device)
        labels = torch.where(torch.from_numpy(row.supervised).to(model.device), ids, -100)
        if method in ("donod", "grand"):
            _head_gradient(model, head, ids, labels, head_only, moved=method == "donod")
            continue
        with torch.no_grad():
            if method in ("loss", "perplexity", "ifd"):
                model(input_ids=ids, labels=labels, use_cache=False).loss.item()
                if method == "ifd":
                    alone = ids[labels >= 0][None]
                    model(input_ids=alone, labels=alone, use_cache=False).loss.item()
                continue
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            probabilities = logits[labels[0, 1:] >= 0].softmax(-1)
            if method == "entropy":
                (-probabilities * (probabilities + 1e-12).log()).sum(-1).mean().item()
            else:
                target = ids[:, 1:][labels[:, 1:] >= 0][:, None]
                ones = torch.ones_like(target, dtype=probabilities.dtype)
                probabilities.scatter_add(1, target, -ones).norm(dim=-1).mean().item()


def _head_gradient(model: Any, head: Any, ids: Tensor, labels: Tensor, head_only: bool, moved: bool) -> None:
    """The norm of the head's gradient, or of the head moved by it."""
    if head_only:
        with torch.no_grad():
            states = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0, :-1]
        weight = head.weight.detach().requires_grad_()
        wanted = labels[0, 1:] >= 0
        logits = (states[wanted] @ weight.T).float()
        torch.nn.functional.cross_entropy(logits, ids[0, 1:][wanted]).backward()
    else:
        weight = head.weight
        model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
    gradient = weight.grad
    assert gradient is not None
    (weight.detach() - 1e-3 * gradient if moved else gradient).norm().item()
    weight.grad = None
