# Your own model on your own data:   whichopt recommend examples/own.py --budget 60s
from sklearn.datasets import load_digits
from torch import nn, tensor

digits = load_digits()
data = tensor(digits.data / 16).float(), tensor(digits.target)  # or data sets, DataLoaders; (train, validation, test)
training = {"batch_size": 64, "epochs": 12}


def model():
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
