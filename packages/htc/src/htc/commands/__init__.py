"""The commands htc-train, htc-evaluate, htc-predict and htc-reproduce."""
