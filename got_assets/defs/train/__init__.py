"""Graph group `train`: foundation, pretraining, finetuning."""
