"""Images kept as JPEG files: the same images, crops and runs as decoded ones, up to the loss of JPEG."""

import json
import shutil

import numpy as np
import pytest
import torch
from factories import image_tree
from PIL import Image

from dg_batchformer.data import cache as caches
from dg_batchformer.data import load_dataset
from dg_batchformer.data.cache import kind_of
from dg_batchformer.data.encoded import EncodedImages, encode, with_pillow
from dg_batchformer.data.environments import augmentation
from dg_batchformer.errors import InputError
from dg_batchformer.runs import files, resolve
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.training.trainer import run


def smooth(generator, height, width):
    """An image as photographs are, without noise of single pixels."""
    coarse = Image.fromarray(generator.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def root(tmp_path):
    """Images of different sizes and formats."""
    root, generator = image_tree(tmp_path / "mine"), np.random.default_rng(0)
    for i, path in enumerate(sorted(root.rglob("*.jpg"))):
        image = smooth(generator, 200 + 7 * i, 300 - 5 * i)
        path.unlink()
        image.convert("L" if i == 3 else "RGB").save(path.with_suffix((".png", ".jpg")[i % 2]))
    return root


def both(root, **options):
    return [load_dataset(f"folder:{root}", image_cache=kind, **options) for kind in ("decoded", "encoded")]


def test_images_are_those_of_the_decoded_cache(root):
    decoded, encoded = both(root)
    assert (decoded.files, decoded.classes, decoded.fingerprint) == (
        encoded.files,
        encoded.classes,
        encoded.fingerprint,
    )
    for one, other in zip(decoded.environments, encoded.environments, strict=True):
        assert isinstance(other.images, EncodedImages)
        assert other.images.shape == tuple(one.images.shape) == (8, 256, 256, 3)
        assert other.images.nbytes == one.images.nbytes
        assert torch.equal(one.originals, other.originals)
        for i, image in enumerate(one.images):
            difference = (other.images.decoded(i).permute(1, 2, 0).int() - image.int()).abs().float()
            assert difference.mean() < 1.5
    assert [decoded.notes, encoded.notes] == [
        encoded.notes[1:],
        ["images are kept as JPEG files of quality 95", *decoded.notes],
    ]


@pytest.mark.parametrize("augmented", [True, False])
def test_crops_and_draws_are_the_same(root, augmented):
    decoded, encoded = (dataset.environments[1] for dataset in both(root))
    indices = torch.tensor([5, 0, 5])
    draws = augmentation(decoded, 3, torch.Generator().manual_seed(0)) if augmented else None
    one, other = decoded.inputs(indices, draws), encoded.inputs(indices, draws)
    levels = 255 * 0.224 * (one - other).abs()
    assert 0 < levels.mean() < 2
    if augmented:  # the same image is cropped in two ways
        assert not torch.equal(other[0], other[2])


def test_a_file_is_kept_without_another_loss_of_size(root):
    (environment, *_) = both(root)[1].environments
    image = Image.open(sorted(root.glob("a/cat/*"))[0]).convert("RGB").resize((256, 256), Image.Resampling.BILINEAR)
    assert bytes(environment.images.file(0).numpy()) == encode(image)
    assert torch.equal(environment.images.decoded(0), with_pillow(environment.images.file(0)))


def test_corrupt_images_are_named_or_skipped(root):
    paths = sorted(root.glob("b/*/*"))
    paths[0].write_text("no image")
    with pytest.raises(InputError, match="1 corrupt image"):
        both(root)
    decoded, encoded = both(root, skip_corrupt=True)
    assert decoded.skipped == encoded.skipped != []
    assert encoded.sizes == [8, 7, 8]
    difference = encoded.environments[1].images.decoded(0).permute(1, 2, 0).int() - decoded.environments[1].images[0]
    assert difference.abs().float().mean() < 1.5


def test_both_caches_stay_beside_each_other(root, tmp_path):
    one, other = (dataset.cache for dataset in both(root))
    assert one.is_dir()
    assert other.is_dir()
    assert {path.name for path in one.iterdir()} == {"images.npy", "sizes.npy", "index.json"}
    assert {path.name for path in other.iterdir()} == {"images.jpegs", "bounds.npy", "sizes.npy", "index.json"}
    shutil.rmtree(one)
    both(root)
    assert other.is_dir()


def test_large_benchmarks_are_encoded(root, monkeypatch):
    assert [kind_of(n, None) for n in (80_000, 80_001)] == ["decoded", "encoded"]
    assert kind_of(10**6, "decoded") == "decoded"
    monkeypatch.setattr(caches, "ENCODED_ABOVE", 10)
    assert isinstance(load_dataset(f"folder:{root}").environments[0].images, EncodedImages)
    with pytest.raises(InputError, match="unknown image cache 'jpeg'"):
        kind_of(5, "jpeg")


def test_a_run_trains_on_them(root, tmp_path):
    hparams = json.dumps({"backbone": "resnet18", "weights": None, "batch_size": 2})
    given = {"dataset": f"folder:{root}", "hparams": hparams, "steps": 2, "skip_model_save": True}
    jobs = set()
    for image_cache in (None, "encoded"):
        arguments = RunArguments(**given, output_dir=str(tmp_path / f"{image_cache}"), image_cache=image_cache)
        jobs.add(resolve(arguments).job_id)
        run(arguments, echo=False)
    records = [files.last_lines(tmp_path / name / files.RESULTS, 1)[0] for name in ("None", "encoded")]
    losses = [json.loads(record)["loss"] for record in records]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert len(jobs) == 2
    with pytest.raises(InputError, match="unknown image_cache 'jpeg': known are decoded, encoded"):
        resolve(RunArguments(**given, image_cache="jpeg"))
