"""A setting of continual training that takes a second, for tests of what runs it."""

from torch_experiments.lab.training import Config

SMALL = Config(
    stream_settings=(("size", 2),),
    tasks=2,
    steps=20,
    batch=16,
    arch_settings=(("width", 16), ("depth", 2)),
    probe_train=20,
    probe_test=20,
)
