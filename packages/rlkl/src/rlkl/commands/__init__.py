"""The commands: rlkl-pretrain, rlkl-finetune, rlkl-evaluate, rlkl-analyze and rlkl-reproduce."""
