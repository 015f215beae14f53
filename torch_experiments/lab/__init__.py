"""The laboratory: images, streams of tasks, training, the experiments and what their records say."""
