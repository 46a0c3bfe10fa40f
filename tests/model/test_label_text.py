"""The head that compares texts with titles: its scores by hand, its start, and its place in the model's folder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from kjcm.errors import ConfigError
from kjcm.model.encoder import MeanPooled, build_encoder
from kjcm.model.encoder_files import load_encoder, save_encoder
from kjcm.model.label_text import LabelText

CODES, TITLES = ("11", "12", "13"), [0, 0, 0, 0, 1, 2, 2]  # class of each title
SHAPE = {
    "model_type": "distilbert",
    "n_layers": 1,
    "dim": 8,
    "n_heads": 2,
    "hidden_dim": 16,
    "max_position_embeddings": 16,
}


def head_of(*, both: bool) -> tuple[LabelText, torch.Tensor, torch.Tensor]:
    """Return a head with random titles, the titles' vectors and the centre of texts."""
    random = torch.Generator().manual_seed(0)
    titles, centre = torch.randn(len(TITLES), 8, generator=random) + 3, torch.randn(8, generator=random)
    head = LabelText.of(8, TITLES, CODES, both=both, dropout=0.5).eval()
    head.refresh(titles, centre)
    head.begin()
    return head, titles, centre


def test_scores_mix_the_best_title_and_the_mean_of_the_best_three() -> None:
    head, titles, centre = head_of(both=False)
    texts = torch.randn(5, 8, generator=torch.Generator().manual_seed(1)) + centre
    with torch.no_grad():
        head.mix.fill_(1.0)
        head.scale.fill_(0.5)
    found = head(texts).detach().numpy()
    share = 1 / (1 + np.exp(-1.0))
    for row, text in enumerate(texts):
        cosines = cosine_similarity((text - centre)[None], titles - titles.mean(0)).numpy()
        for index in range(len(CODES)):
            own = np.sort(cosines[np.array(TITLES) == index])[::-1]
            wanted = np.exp(0.5) * (share * own[0] + (1 - share) * own[:3].mean())
            assert found[row, index] == pytest.approx(wanted, abs=1e-5)


def test_a_linear_layer_begins_at_the_mean_titles() -> None:
    plain, _, _ = head_of(both=False)
    both, titles, centre = head_of(both=True)
    texts = torch.randn(4, 8, generator=torch.Generator().manual_seed(2)) + centre
    centred = titles - titles.mean(0)
    unit = centred / centred.norm(dim=1, keepdim=True)
    means = torch.stack([unit[torch.tensor(TITLES) == index].mean(0) for index in range(len(CODES))])
    assert plain.scale.exp().item() == pytest.approx(2 * both.scale.exp().item())
    added = (2 * both(texts) - plain(texts)).detach()
    wanted = plain.scale.exp() * cosine_similarity((texts - centre)[:, None], means[None], dim=2)
    torch.testing.assert_close(added, wanted.detach(), atol=1e-4, rtol=1e-4)


def test_a_class_without_a_title_is_named() -> None:
    with pytest.raises(ConfigError, match="'13' have no title"):
        LabelText.of(8, [0, 1], CODES, both=True, dropout=0.0)


@pytest.mark.parametrize("both", [False, True])
def test_a_folder_has_the_titles(both: bool, tmp_path: Path) -> None:
    encoder = build_encoder(
        pretrained=None, shape=SHAPE, pooling="mean", classes=3, vocabulary=20, pad=1, max_length=8, seed=0
    )
    assert isinstance(encoder, MeanPooled)
    encoder.head, _, _ = head_of(both=both)
    save_encoder(encoder, tmp_path)
    again = load_encoder(tmp_path, "mean").eval()
    ids = torch.tensor([[2, 5, 7, 3], [2, 9, 3, 1]])
    mask = (ids != 1).long()
    assert torch.equal(again(ids, mask), encoder.eval()(ids, mask))
