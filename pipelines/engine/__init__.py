"""The batched generation core: what a draw is (sampler), who owns cache memory (cache), what touches the model (forward),
who runs next (engine)."""
