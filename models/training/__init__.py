"""Training and evaluation of Quotary's demand model (run `models/train.sh`)."""
