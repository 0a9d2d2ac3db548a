"""The commands htc-train, htc-evaluate and htc-predict, and the reproduction of the paper."""
