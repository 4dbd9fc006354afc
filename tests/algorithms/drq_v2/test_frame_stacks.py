"""Stacks, shifts and n-step returns from windows of single frames, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reverie_algorithms.drq_v2.frame_stacks import (
    PAD,
    picked,
    push,
    shifted_stacks,
    transitions,
    unshifted,
    window_length,
)

GAMMA = 0.9


def sampled_shift(image_BCHW, shift_B2):
    """The paper's form: replicated border, then bilinear sampling at shifted places."""
    side, padded = image_BCHW.shape[-1], F.pad(image_BCHW, (PAD,) * 4, "replicate")
    whole = side + 2 * PAD
    places = (2 * torch.arange(side, dtype=torch.float64) + 1) / whole - 1
    grid = torch.stack(torch.meshgrid(places, places, indexing="xy"), -1)
    moved = grid + shift_B2.flip(-1).view(-1, 1, 1, 2) * 2 / whole
    return F.grid_sample(padded, moved, padding_mode="zeros", align_corners=False)


def test_shifts_are_the_papers_at_every_place():
    places = torch.cartesian_prod(torch.arange(2 * PAD + 1), torch.arange(2 * PAD + 1))
    frames = torch.randint(0, 256, (len(places), 4, 16, 16, 3), dtype=torch.uint8)
    rows = torch.tensor([0, 2, 3]).expand(len(places), -1)
    got = shifted_stacks(frames, rows, places)
    stacks = frames[:, [0, 2, 3]].permute(0, 1, 4, 2, 3).flatten(1, 2)
    wanted = sampled_shift(stacks.double(), places.double()).permute(0, 2, 3, 1)
    assert (got - wanted).abs().max() < 1e-9
    assert got.dtype == torch.uint8


def test_images_need_not_be_square_nor_move():
    frames = torch.randint(0, 256, (3, 2, 5, 9, 1), dtype=torch.uint8)
    rows = torch.tensor([[0, 1], [1, 1], [0, 0]])
    got = shifted_stacks(frames, rows, unshifted(3, frames.device))
    for n, pair in enumerate(rows.tolist()):
        for channel, row in enumerate(pair):
            assert torch.equal(got[n, :, :, channel], frames[n, row, :, :, 0])


def random_windows(stack, num_steps, count=300, seed=0):
    """Rows of short episodes, whose last rows are terminal or time-outs."""
    rng = np.random.default_rng(seed)
    shape = (count, window_length(stack, num_steps))
    is_last = rng.random(shape) < 0.3
    is_first = np.concatenate([rng.random((count, 1)) < 0.3, is_last[:, :-1]], 1)
    rows = {
        "is_first": is_first,
        "is_last": is_last,
        "is_terminal": is_last & (rng.random(shape) < 0.5),
        "reward": rng.normal(size=shape).astype(np.float32),
        "action": rng.normal(size=(*shape, 2)).astype(np.float32),
    }
    return {key: torch.from_numpy(value) for key, value in rows.items()}


def stack_at(first, row, stack):
    rows = [row]
    while len(rows) < stack:
        rows.insert(0, rows[0] - 1 if rows[0] > 0 and not first[rows[0]] else rows[0])
    return rows


def walk(window, stack, num_steps):
    """One transition, row by row."""
    row, total, discount = stack - 1, 0.0, 1.0
    for _ in range(num_steps):
        if window["is_last"][row]:
            break
        row += 1
        total += discount * window["reward"][row].item()
        discount *= GAMMA
    first = window["is_first"].tolist()
    return {
        "rows_BS": stack_at(first, stack - 1, stack),
        "next_rows_BS": stack_at(first, row, stack),
        "return_B": total,
        "discount_B": 0.0 if window["is_terminal"][row] else discount,
        "weight_B": float(not window["is_last"][stack - 1]),
    }


@pytest.mark.parametrize(("stack", "num_steps"), [(3, 3), (1, 1), (1, 4), (4, 1)])
def test_transitions_are_those_of_a_plain_loop(stack, num_steps):
    batch = random_windows(stack, num_steps)
    got = transitions(batch, stack, num_steps, GAMMA)
    for n in range(len(batch["reward"])):
        window = {key: value[n] for key, value in batch.items()}
        for name, wanted in walk(window, stack, num_steps).items():
            value = getattr(got, name)[n].tolist()
            if name == "discount_B" and not got.weight_B[n]:
                continue
            assert value == pytest.approx(wanted, abs=1e-6), (n, name)
    assert torch.equal(got.action_BA, batch["action"][:, stack - 1])


def one_window(**flags):
    """Six rows for a stack of 3 and 3 steps, with rewards 0, 1, 2, ... and these flags set."""
    names = ("is_first", "is_last", "is_terminal")
    batch = {key: torch.zeros(1, 6, dtype=torch.bool) for key in names}
    for key, rows in flags.items():
        batch[key][0, rows] = True
    batch |= {"reward": torch.arange(6.0).unsqueeze(0), "action": torch.zeros(1, 6, 1)}
    return transitions(batch, 3, 3, GAMMA)


def test_three_rewards_and_the_value_behind_them():
    got = one_window()
    assert got.return_B.item() == pytest.approx(3 + 4 * GAMMA + 5 * GAMMA**2)
    assert got.discount_B.item() == pytest.approx(GAMMA**3)
    assert (got.rows_BS.tolist(), got.next_rows_BS.tolist()) == ([[0, 1, 2]], [[3, 4, 5]])


def test_a_terminal_row_ends_the_return_and_has_no_value():
    got = one_window(is_last=[3], is_terminal=[3], is_first=[4])
    assert got.return_B.item() == 3
    assert got.discount_B.item() == 0


def test_behind_a_time_out_the_value_of_the_last_row_counts():
    got = one_window(is_last=[4], is_first=[5])
    assert got.return_B.item() == pytest.approx(3 + 4 * GAMMA)
    assert got.discount_B.item() == pytest.approx(GAMMA**2)
    assert got.next_rows_BS.tolist() == [[2, 3, 4]]


def test_a_stack_repeats_the_first_frame_and_sees_no_former_episode():
    assert one_window(is_last=[0], is_first=[1]).rows_BS.tolist() == [[1, 1, 2]]
    got = one_window(is_last=[1], is_first=[2])
    assert got.rows_BS.tolist() == [[2, 2, 2]]
    assert got.next_rows_BS.tolist() == [[3, 4, 5]]


def test_a_last_row_is_no_state_to_learn_from():
    assert one_window(is_last=[2], is_first=[3]).weight_B.item() == 0
    assert one_window(is_last=[3], is_first=[4]).weight_B.item() == 1


def test_values_are_picked_row_by_row():
    values = torch.arange(12).view(2, 3, 2)
    assert picked(values, torch.tensor([[0, 2], [1, 1]])).tolist() == [
        [[0, 1], [4, 5]],
        [[8, 9], [8, 9]],
    ]


def test_the_newest_frame_is_pushed_and_a_first_one_fills_the_stack():
    stack = torch.tensor([[[1], [2], [3]], [[4], [5], [6]]])
    got = push(stack, torch.tensor([[7], [8]]), torch.tensor([False, True]))
    assert got.squeeze(-1).tolist() == [[2, 3, 7], [8, 8, 8]]
