"""Pictures of imagined futures: what is seen, what is imagined, and how far off it is."""

from __future__ import annotations

import pytest
import torch

from reverie_algorithms.dreamer.open_loop import look_ahead
from tests.algorithms import small_2023, small_2025
from tests.algorithms.small_v2 import nano_v2

MAKERS = {
    "2023": (small_2023.nano_agent, small_2023.random_batch),
    "2025": (small_2025.nano_agent, small_2025.random_batch),
    "v2": (nano_v2, small_2023.random_batch),
}
every_dreamer = pytest.mark.parametrize(("make", "rows"), MAKERS.values(), ids=MAKERS)


def generator():
    return torch.Generator().manual_seed(3)


@every_dreamer
def test_seen_rows_are_rebuilt_and_the_rest_is_imagined_step_by_step(make, rows):
    agent = make()
    data, model, rssm = agent.prepare(rows(agent.spaces)), agent.world_model, agent.rssm
    action, is_first = data["prev_action"], data["is_first"]
    steps, seen = is_first.shape[1], 2

    def pictures(feat):
        return model.decoder.image_means(feat)["image"] + 0.5

    with torch.no_grad():
        uniform = rssm.noise(is_first.shape, generator())
        embed = agent.encoder(agent.keys.inputs(data))
        observed = rssm.observe(embed, action, is_first, uniform).state
        state = type(observed)(*[part[:, seen - 1] for part in observed])
        imagined = []
        for t in range(seen, steps):
            state = rssm.imagine_step(state, action[:, t], uniform[:, t])
            imagined.append(state.feat)
        whole = model.open_loop(data, steps, generator())["image"]
        part = model.open_loop(data, seen, generator())["image"]
        torch.testing.assert_close(whole, pictures(observed.feat))
        rebuilt, later = part.split([seen, steps - seen], 1)
        close = {"atol": 1e-5, "rtol": 1e-4}
        torch.testing.assert_close(rebuilt, pictures(observed.feat[:, :seen]), **close)
        torch.testing.assert_close(later, pictures(torch.stack(imagined, 1)), **close)


class Perfect:
    """Predicts what comes."""

    def open_loop(self, data, context, generator):
        return {"image": data["image"].float() / 255}


def test_a_perfect_prediction_has_no_error_and_a_grey_difference():
    image = torch.randint(0, 256, (2, 6, 4, 5, 3), dtype=torch.uint8)
    data = {"image": image, "is_first": torch.zeros(2, 6, dtype=torch.bool)}
    videos, metrics = look_ahead(Perfect(), data, generator())
    assert set(metrics) == {"open_loop/image_mse_observed", "open_loop/image_mse_1"}
    assert not any(metrics.values())
    film = torch.from_numpy(videos["open_loop/image"])
    assert film.shape == (6, 3 * 4, 2 * 5, 3)
    assert torch.equal(film[:, :4, :5], image[0])
    assert film[:, 8:].unique().tolist() == [127]
