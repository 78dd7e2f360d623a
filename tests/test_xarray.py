"""xarray opens a store as it is: every array names its dimensions, which agree within a group."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import FeatureArray, Layout

xarray = pytest.importorskip("xarray")
EXTRAS = (FeatureArray("regions", 4, 14), FeatureArray("global", 9, 0))
Make = Callable[..., FeatureCache]


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_the_whole_store_is_a_tree(make_cache: Make, dtype: str) -> None:
    cache = make_cache(rows=20, extras=EXTRAS, layout=Layout(8, 16, dtype))
    with xarray.open_datatree(cache.path, engine="zarr", consolidated=False) as tree:
        train = tree["train"]
        assert train["pyramid/p16"].dims == ("row", "p16_channel", "y", "x")
        assert train["regions"].dims == ("row", "regions_channel", "regions_y", "regions_x")
        assert train["global"].dims == ("row", "global_channel")
        assert train["labels/indptr"].sizes == {"row_bound": 21}
        assert tree["classes/vector"].dims == ("class", "word_dimension")
        assert tree["test"].sizes["row"] == 10
        shards = np.arange(20) // 16
        number = [array.name for array in cache.arrays].index("global")
        place = cache.shape.scale_places[number]
        step, offset = train["scale"].values[shards, place].transpose(2, 0, 1)
        values = (train["global"].values * step + offset).astype(np.float16)
        np.testing.assert_array_equal(values, cache.read("train", "global", 0, 20))


@pytest.mark.parametrize("group", ["classes", "train", "train/labels", "train/pyramid"])
def test_every_group_is_a_dataset(make_cache: Make, group: str) -> None:
    cache = make_cache(rows=20, extras=EXTRAS)
    names = cache.shape.dimension_names()
    with xarray.open_zarr(cache.path, group=group, consolidated=False) as data:
        assert data.data_vars
        for name, values in data.data_vars.items():
            assert values.dims == names[f"{group}/{name}"]
        if group == "train":
            assert data.image_path.values[:2].tolist() == ["train0.png", "train1.png"]
            assert (data.status == 1).all()
        if group == "train/pyramid":
            means = data.p32.mean(("y", "x")).values
            np.testing.assert_allclose(means, cache.read("train", "p32", 0, 20).mean((2, 3)), rtol=1e-2)
