"""From a config to a model that is trained, saved and loaded again."""
