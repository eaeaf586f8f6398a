"""The peak memory of one rank: arithmetic on the model's parameters, and a trace of its activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sono.training import recipes
from sono.training.model.mask_clip import GROUPS, group_of

from .activations import trace_image_tower, trace_text_tower
from .flops import feature_dim, meta_model

FP32 = 4  # bytes
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Numbers of parameters by the optimizer's groups."""

    trained: Mapping[str, int]
    frozen: Mapping[str, int]
    largest_block: int
    features: int  # length of a feature vector
    image_size: int

    @property
    def total(self) -> int:
        """All parameters, trained or frozen."""
        return sum(self.trained.values()) + sum(self.frozen.values())


@dataclass(frozen=True, kw_only=True)
class RankMemory:
    """Bytes on one rank, by purpose; ``peak`` is the most in use at once.

    ``saved`` (activations for the backward pass) and ``passes`` (the most alive within forward and backward: saved
    activations, temporary tensors and the gradients that exist by then) are traced; the rest is arithmetic. Neither
    includes what a device's driver and libraries take (about 0.5 to 1 GiB with CUDA), nor an allocator's fragments.
    """

    weights: int
    gathered: int
    gradients: int
    optimizer: int
    batch: int
    saved: int
    passes: int
    loss: int
    bank: int
    peak: int


def count_parameters(recipe: recipes.Recipe) -> Parameters:
    """Count a recipe's parameters without allocating them."""
    model = meta_model(recipe)
    trained, frozen = dict.fromkeys(GROUPS, 0), dict.fromkeys(GROUPS, 0)
    for name, parameter in model.clip.named_parameters():
        (trained if parameter.requires_grad else frozen)[group_of(name)] += parameter.numel()
    blocks = (module for name, module in model.clip.named_modules() if name.rpartition(".")[2].isdecimal())
    largest = max((sum(parameter.numel() for parameter in block.parameters()) for block in blocks), default=0)
    return Parameters(
        trained=trained, frozen=frozen, largest_block=largest, features=feature_dim(model), image_size=model.image_size
    )


def rank_memory(
    recipe: recipes.Recipe,
    parameters: Parameters,
    *,
    ranks: int = 1,
    captions: int = 0,
    captions_per_sample: float = 1.0,
    on_cuda: bool = True,
) -> RankMemory:
    """Estimate the memory of one rank at a recipe's batch.

    Args:
        parameters: ``count_parameters(recipe)``.
        ranks: processes, each with its share of the batch; the recipe's strategy says whether they share the model.
        captions: distinct captions in the bank, if the text tower is frozen.
        captions_per_sample: distinct captions of a batch divided by its samples, if it is trained.
        on_cuda: with what CUDA's autocast does differently from the CPU's.
    """
    accumulate, sharded = recipe.train.accumulate, ranks > 1 and recipe.train.strategy == "fsdp"
    share = recipe.train.batch_size // ranks
    micro_batch = -(-share // accumulate)
    shards = ranks if sharded else 1
    trained = sum(parameters.trained.values())
    weights, gradients = FP32 * parameters.total // shards, FP32 * trained // shards
    optimizer = 2 * FP32 * trained // shards  # AdamW's two moments
    # FSDP gathers a block, and the next one while it computes; a gradient is complete before it is sharded.
    gathered = 3 * FP32 * parameters.largest_block if sharded else 0
    image = trace_image_tower(recipe, micro_batch, on_cuda=on_cuda)
    text = trace_text_tower(recipe, max(1, round(micro_batch * captions_per_sample)), on_cuda=on_cuda)
    passes = image.peak + text.peak
    if accumulate > 1:  # the sum over micro-batches is of complete gradients, which FSDP shards after the last one
        passes += FP32 * trained
    elif ranks > 1:  # in DDP's buckets, or FSDP's shards
        passes += gradients
    batch = 2 * share * 4 * parameters.image_size**2  # 8 bit, image and mask; the next batch is already loading
    if accumulate > 1:  # the share in floating point, waiting for its turn
        batch += FP32 * share * 4 * parameters.image_size**2
    width = parameters.features * FP32
    # Features of the texts and their gradient, those of the images, and some matrices of a chunk's logits.
    loss = 4 * recipe.train.batch_size * width + 6 * min(recipe.loss.chunk, share) * recipe.train.batch_size * FP32
    bank = 0 if recipe.optimizer.lr_text else captions * width
    stepping = 2 * gradients  # AdamW holds a temporary tensor of the size of all that it updates
    return RankMemory(
        weights=weights,
        gathered=gathered,
        gradients=gradients,
        optimizer=optimizer,
        batch=batch,
        saved=image.saved + text.saved,
        passes=passes,
        loss=loss,
        bank=bank,
        peak=weights + gathered + optimizer + batch + bank + max(passes + loss, stepping),
    )
