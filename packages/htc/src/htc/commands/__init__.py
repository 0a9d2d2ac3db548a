"""The commands htc-train, htc-evaluate, htc-predict, htc-demo and htc-reproduce."""
