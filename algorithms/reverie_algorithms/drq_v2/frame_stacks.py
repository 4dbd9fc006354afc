"""From windows of single frames to n-step transitions between shifted stacks of frames.

The replay holds every frame once; stacks, n-step returns and random shifts come about here.

Shape legend: B batch, T rows of a window, S stacked frames, N steps of the return, A action,
H W C image height, width and channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

PAD = 4
"""Pixels by which an image may move to each side (arXiv:2107.09645, section 3.1)."""


class Transitions(NamedTuple):
    """What happened within N steps from one row of each window."""

    rows_BS: Tensor
    """Rows of the window that make the state's stack, oldest first."""
    next_rows_BS: Tensor
    action_BA: Tensor
    return_B: Tensor
    """Discounted sum of the rewards on the way."""
    discount_B: Tensor
    """Weight of the next state's value: gamma per step, 0 after a terminal row."""
    weight_B: Tensor
    """1, or 0 where the state is the last of its episode and nothing was done in it."""


def window_length(stack: int, num_steps: int) -> int:
    """Rows of a window: the state's stack and the steps after it."""
    return stack + num_steps


def transitions(
    batch: Mapping[str, Tensor], stack: int, num_steps: int, gamma: float
) -> Transitions:
    """Cut one transition out of each window [B, T, ...] of `window_length` rows.

    The state is row `stack - 1`. Rewards are those of the rows after it, since a reward comes
    with the observation it led to. Where the episode ends sooner than `num_steps` rows later, the
    return ends with it: nothing follows a terminal row, and after a time-out the value of the last
    row counts, by the steps it took to get there. Stacks begin with the episode: its first frame
    is repeated, and no frame of the episode before is seen.

    Differs from the paper, whose code never draws the last `num_steps - 1` states of an episode.
    The last row of all is a state without an action here; it is drawn and weighs nothing, so that
    all other states are drawn equally often.
    """
    is_first_BT, now = batch["is_first"], stack - 1
    device = is_first_BT.device
    position_T = torch.arange(is_first_BT.shape[1], device=device)
    start_BT = (position_T * is_first_BT).cummax(1).values
    alive_BN = (~is_first_BT[:, stack:]).long().cumprod(1)
    steps_B1 = alive_BN.sum(1, keepdim=True)

    discount_N = gamma ** torch.arange(num_steps, device=device, dtype=torch.float32)
    return_B = (batch["reward"][:, stack:].float() * alive_BN * discount_N).sum(1)
    goes_on_B = (~batch["is_terminal"]).gather(1, now + steps_B1).squeeze(1)
    return Transitions(
        rows_BS=_stack_rows(start_BT[:, now : now + 1], torch.full_like(steps_B1, now), stack),
        next_rows_BS=_stack_rows(start_BT.gather(1, now + steps_B1), now + steps_B1, stack),
        action_BA=batch["action"][:, now].float(),
        return_B=return_B,
        discount_B=gamma ** steps_B1.squeeze(1).float() * goes_on_B,
        weight_B=alive_BN[:, 0].float(),
    )


def _stack_rows(start_B1: Tensor, row_B1: Tensor, stack: int) -> Tensor:
    past_S = torch.arange(1 - stack, 1, device=row_B1.device)
    return torch.maximum(row_B1 + past_S, start_B1)


def shifted_stacks(frames_BTHWC: Tensor, rows_BS: Tensor, shift_B2: Tensor) -> Tensor:
    """Pick frames and move each stack by whole pixels over its replicated border.

    Equal to padding by `PAD`, then cutting at (down, right) = `shift_B2` in 0..2 PAD, as the
    paper's bilinear sampling does at whole pixels, in one copy of each line of pixels.

    Returns:
        [B, H, W, S * C], of the dtype of the frames, oldest frame first.
    """
    (batch, num_rows, height, width, channels), device = frames_BTHWC.shape, frames_BTHWC.device
    border = (-1, -1, -1, PAD, -1)
    left, right = frames_BTHWC[:, :, :, :1], frames_BTHWC[:, :, :, -1:]
    padded = torch.cat([left.expand(border), frames_BTHWC, right.expand(border)], 3)
    # Every place in the padded frames begins one of these overlapping lines.
    line = width * channels
    lines = padded.view(-1).as_strided((padded.numel() - line + 1, line), (1, 1))

    frame_BS = torch.arange(batch, device=device).unsqueeze(1) * num_rows + rows_BS
    row_BH = torch.arange(height, device=device) + shift_B2[:, :1] - PAD
    row_BHS = frame_BS.unsqueeze(1) * height + row_BH.clamp(0, height - 1).unsqueeze(2)
    start_BHS = row_BHS * (width + 2 * PAD) * channels + shift_B2[:, 1, None, None] * channels
    moved = lines.index_select(0, start_BHS.flatten())
    return torch.cat(moved.view(batch, height, -1, width, channels).unbind(2), -1)


def unshifted(count: int, device: torch.device) -> Tensor:
    """The shift [B, 2] that leaves images where they are."""
    return torch.full((count, 2), PAD, device=device)


def picked(values_BTX: Tensor, rows_BS: Tensor) -> Tensor:
    """Values [B, S, ...] of the rows of each window."""
    index = rows_BS.view(*rows_BS.shape, *[1] * (values_BTX.ndim - 2))
    return values_BTX.gather(1, index.expand(-1, -1, *values_BTX.shape[2:]))


def push(stack_BSX: Tensor, newest_BX: Tensor, is_first_B: Tensor) -> Tensor:
    """Append the newest frame; a first one fills the whole stack."""
    newest_B1X = newest_BX.unsqueeze(1)
    moved = torch.cat([stack_BSX[:, 1:], newest_B1X], 1)
    is_first = is_first_B.view(-1, *[1] * (moved.ndim - 1))
    return torch.where(is_first, newest_B1X, moved)
