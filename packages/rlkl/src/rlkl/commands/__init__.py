"""The commands rlkl-pretrain, rlkl-finetune and rlkl-evaluate, the analysis, and the reproduction of the paper."""
