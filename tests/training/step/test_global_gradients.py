"""However many ranks share a batch, and however it is cut: loss and every gradient are those of one whole batch."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sono.training.step.distributed import ALONE
from sono.training.step.feature_cache import loss_and_gradients
from sono.training.step.parallel import Towers, compile_blocks, transformer_blocks

sys.path.insert(0, str(Path(__file__).parent))  # the program that the ranks run
from global_gradients import BATCH, CAPTIONS, LIMIT, Case, Found, cases, compute, make_batch, make_model

TOLERANCE = {"rtol": 0, "atol": 1e-12}


def expected(case: Case) -> Found:
    """One process, the whole batch, every pair, no chunk; by torch's own gradients of the formula."""
    model = make_model(case.text_learns)
    clip, (x_B4HW, bank_KL) = model.clip, make_batch()
    image_BD = F.normalize(clip.encode_image(x_B4HW), dim=-1)
    text_BD = F.normalize(clip.encode_text(bank_KL[CAPTIONS]), dim=-1)
    logits = clip.logit_scale.exp() * image_BD @ text_BD.T
    same = CAPTIONS[:, None] == CAPTIONS if case.positives == "caption" else torch.eye(BATCH, dtype=torch.bool)
    if case.kind == "sigmoid":
        sign = same.double() * 2 - 1
        loss = -F.logsigmoid(sign * (logits + clip.logit_bias)).sum() / BATCH
    else:
        share = same.double() / same.sum(dim=1, keepdim=True)
        loss = (F.cross_entropy(logits, share) + F.cross_entropy(logits.T, share)) / 2 + 0 * clip.logit_bias
    loss.backward()
    found = {name: one.grad for name, one in clip.named_parameters() if one.requires_grad}
    norm = torch.stack([one.norm() for one in found.values()]).norm()
    assert norm > LIMIT
    return {**found, "loss": loss.detach(), "norm": norm, "clipped": torch.tensor(LIMIT, dtype=torch.float64)}


def assert_exact(found: Found, case: Case) -> None:
    wanted = expected(case)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        tolerance = {"rtol": 1e-3, "atol": 0} if name == "clipped" else TOLERANCE  # the clipping adds 1e-6 to the norm
        assert torch.allclose(found[name], value, **tolerance), (case, name, (found[name] - value).abs().max())
    assert (wanted["logit_scale"].abs() > 1e-3).all()  # a test of nothing otherwise
    assert case.kind == "softmax" or wanted["logit_bias"].abs() > 1e-3


@pytest.mark.parametrize("case", list(cases(("ddp",))), ids=str)
def test_a_single_process_needs_no_process_group(case: Case) -> None:
    assert_exact(compute(case, ALONE), case)
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.slow
def test_ranks_that_share_a_batch_have_the_gradients_of_all_of_it(
    size: int, start_ranks: Callable, tmp_path: Path
) -> None:
    ranks = start_ranks(size, str(Path(__file__).parent / "global_gradients.py"), tmp_path / "found.pt")
    assert ranks.end() == [0] * size, ranks.output()
    found = {Case(*fields): values for fields, values in torch.load(tmp_path / "found.pt").items()}
    assert set(found) == set(cases(("ddp", "fsdp")))
    for case, values in found.items():
        assert_exact(values, case)


@pytest.mark.parametrize("accumulate", [2, 5])
def test_random_numbers_of_a_model_are_equal_in_both_passes(accumulate: int) -> None:
    """Patch dropout: the gradient must be that of the features that the loss has seen."""
    x_B4HW, bank_KL = make_batch()
    directions = torch.randn(BATCH, 16, dtype=torch.float64)
    edges = [BATCH * part // accumulate for part in range(accumulate + 1)]

    def loss(image_BD: torch.Tensor, text_UD: torch.Tensor | None) -> torch.Tensor:
        assert text_UD is not None
        return ((image_BD * directions).sum() + text_UD.sum()) ** 2  # its gradient depends on all features

    model = make_model(True, patch_dropout=0.5)
    cached = loss_and_gradients(
        Towers(model, ALONE, "ddp"), x_B4HW, bank_KL[:3], loss, accumulate=accumulate, seed=torch.manual_seed
    )
    found = {name: one.grad for name, one in model.clip.named_parameters() if one.grad is not None}
    model.zero_grad()
    parts = []
    for part, (start, end) in enumerate(itertools.pairwise(edges)):
        torch.manual_seed(part)
        parts.append(model.encode_image(x_B4HW[start:end]))
    whole = loss(torch.cat(parts), model.encode_text(bank_KL[:3]))
    whole.backward()
    assert torch.allclose(cached, whole, **TOLERANCE)
    assert len(found) > 20
    for name, one in model.clip.named_parameters():
        if one.grad is not None:
            assert torch.allclose(found[name], one.grad, rtol=1e-12, atol=1e-12), name


@pytest.mark.slow
def test_compiled_blocks_of_both_towers_compute_the_same() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model, (x_B4HW, bank_KL) = make_model(True), make_batch()
    before = model(x_B4HW, bank_KL)
    names = {name for name, one in model.named_modules() if any(one is block for block in transformer_blocks(model))}
    towers = ("clip.visual.transformer.resblocks", "clip.transformer.resblocks")
    assert names == {f"{tower}.{number}" for tower in towers for number in (0, 1)}
    compile_blocks(model, backend="aot_eager")
    assert all(torch.allclose(*pair, **TOLERANCE) for pair in zip(model(x_B4HW, bank_KL), before, strict=True))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2
    assert set(model.state_dict()) == set(make_model(True).state_dict())
