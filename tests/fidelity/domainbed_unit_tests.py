"""Runs DomainBed's own unit tests after `register()`, on any machine; prints how they went as JSON.

Run in DomainBed's checkout. Without a GPU, `.cuda()` leaves things where they are; pretrained ResNets, which need a
download, become small networks with stages and features of a ResNet's names and width.
"""

import json
import sys
import unittest

import timm
import torch
import torchvision
from torch import nn

from dg_batchformer.domainbed import register


class SmallResNet(nn.Sequential):
    def __init__(self, *args, **kwargs):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=14)
        self.layer1 = nn.Sequential(nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 8, 3))
        self.layer2 = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3))
        self.layer3 = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 2048, 1))
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(2048, 10)


def run():
    if not torch.cuda.is_available():
        torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *args: self
    timm.create_model = torchvision.models.resnet50 = SmallResNet
    register()
    suite = unittest.defaultTestLoader.discover("domainbed/test", top_level_dir=".")
    result = unittest.TextTestRunner(stream=sys.stderr).run(suite)
    bad = {str(test): text.strip().splitlines()[-1] for test, text in result.errors + result.failures}
    print(json.dumps({"ran": result.testsRun, "skipped": len(result.skipped), "bad": bad}))


if __name__ == "__main__":
    run()
