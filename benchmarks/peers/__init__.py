"""`htc.estimator.HierarchicalClassifier` beside other libraries, on the same features and splits: `make compare-peers`."""
