"""Image to vector: preparing pixels, the models, and the engine that runs them over partitions."""
