"""What the experiments of rlkl and htc share."""
