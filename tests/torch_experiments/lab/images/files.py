"""Files of images in the layouts of their owners, as tests need them."""

import gzip
import io
import json
import pickle
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from torch_experiments.lab.images import formats

NAMES = ["cat", "dog", "eel"]
RNG = np.random.default_rng(0)


def png(pixels):
    """Return an image ``[height, width(, 3)]`` as the bytes of a file."""
    raw = io.BytesIO()
    Image.fromarray(pixels).save(raw, format="PNG")
    return raw.getvalue()


def images(count, seed=0, size=4):
    """Return random images."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(count)]


def write(file, raws, labels, column="image", names=NAMES, label_type="int64"):
    """Write a parquet file of encoded images."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": raw, "path": None} for raw in raws], kind)
    table = pa.table({column: cells, "label": pa.array(labels, label_type)})
    features = {"label": {"_type": "ClassLabel", "names": names}}
    about = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
    pq.write_table(table.replace_schema_metadata(about), file)


def hub(tmp_path, train=None, labels=(0, 1, 2, 1), **layout):
    """Write four images for training and two for testing in the layout of the hub."""
    write(tmp_path / "train-00000-of-00001.parquet", train or list(map(png, images(4))), list(labels), **layout)
    write(tmp_path / "test-00000-of-00001.parquet", list(map(png, images(2, 1))), [2, 0], **layout)
    return tmp_path


def image(size=8):
    return RNG.integers(0, 256, (size, size, 3), dtype=np.uint8)


def tiny(folder):
    """Write two classes of three training and one validation image as tiny-imagenet-200 has them."""
    wnids, shown = ("n02", "n01"), {}
    for wnid in wnids:
        (folder / "train" / wnid / "images").mkdir(parents=True)
        for k in range(3):
            shown[wnid, k] = image()
            (folder / "train" / wnid / "images" / f"{wnid}_{k}.JPEG").write_bytes(png(shown[wnid, k]))
    (folder / "val" / "images").mkdir(parents=True)
    for k in range(2):
        (folder / "val" / "images" / f"val_{k}.JPEG").write_bytes(png(image()))
    (folder / "wnids.txt").write_text("\n".join(wnids))
    lines = [f"val_{k}.JPEG\t{wnid}\t0\t0\t1\t1" for k, wnid in enumerate(wnids)]
    (folder / "val" / "val_annotations.txt").write_text("\n".join(lines))
    return shown


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, f"tiny-imagenet-200/{file.relative_to(folder)}")


def cifar(folder, kind):
    """Write two training batches' worth of CIFAR of one version; return pixels and labels."""
    folder.mkdir()
    x, y = RNG.integers(0, 256, (5, 4, 3072), dtype=np.uint8), RNG.integers(0, 10, (5, 4))
    names = [f"class{k}" for k in range(10)]
    if kind == "python":
        for k in range(5):
            write_pickle(folder / f"data_batch_{k + 1}", {b"data": x[k], b"labels": y[k].tolist()})
        write_pickle(folder / "test_batch", {b"data": x[0], b"labels": y[0].tolist()})
        write_pickle(folder / "batches.meta", {b"label_names": [n.encode() for n in names]})
    else:
        for k in range(5):
            (folder / f"data_batch_{k + 1}.bin").write_bytes(binary(y[k], x[k]))
        (folder / "test_batch.bin").write_bytes(binary(y[0], x[0]))
        (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    return x, y


def write_pickle(file, table):
    file.write_bytes(pickle.dumps(table, protocol=2))


def binary(*columns):
    return np.concatenate([c.reshape(len(c), -1).astype(np.uint8) for c in columns], axis=1).tobytes()


def idx(folder, compressed):
    folder.mkdir()
    x, y = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8), np.arange(6, dtype=np.uint8)
    for name, array in zip(formats.IDX, (x, y, x[:2], y[:2]), strict=True):
        raw = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
        target = folder / (f"{name}.gz" if compressed else name)
        target.write_bytes(gzip.compress(raw) if compressed else raw)
    return x, y
