"""sMLPNet in PyTorch, written from the paper and the names of its published weights."""

import torch
from torch import nn


class ConvMerge(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.BN = nn.BatchNorm2d(width)
        self.Conv = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)

    def forward(self, x):
        return self.Conv(nn.functional.gelu(self.BN(x)))


class LocalMix(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv_merge = ConvMerge(width)

    def forward(self, x):
        return self.conv_merge(x)


class SparseMix(nn.Module):
    def __init__(self, width, grid):
        super().__init__()
        self.BN = nn.BatchNorm2d(width)
        self.proj_h = nn.Conv2d(grid[1], grid[1], 1)
        self.proh_w = nn.Conv2d(grid[0], grid[0], 1)
        self.fuse = nn.Conv2d(3 * width, width, 1, bias=False)

    def forward(self, x):
        z = nn.functional.gelu(self.BN(x))
        a = self.proj_h(z.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        b = self.proh_w(z.permute(0, 2, 1, 3)).permute(0, 2, 1, 3)
        return self.fuse(torch.cat([z, a, b], 1))


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        layers = nn.Linear(width, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, width)
        self.net = nn.Sequential(*layers)

    def forward(self, x):
        return self.net(x)


class Network(nn.Module):
    """`noise` (B, 2·blocks) drops branches by the rates, as ours does."""

    def __init__(self, config):
        super().__init__()
        self.starts = config.stage_starts
        widths, channels, patch = config.stage_widths, config.num_channels, config.patch_size
        embeddings = []
        for width in widths:
            conv = nn.Conv2d(channels, width, patch, patch, bias=False)
            embeddings.append(nn.Sequential(conv))
            channels, patch = width, 2
        self.to_patch_embedding = nn.ModuleList(embeddings)
        self.token_mix, self.channel_mix = nn.ModuleList(), nn.ModuleList()
        for block in range(config.num_hidden_layers):
            stage = config.stage_of(block)
            width, grid = widths[stage], config.stage_grids[stage]
            self.token_mix.append(nn.Sequential(LocalMix(width), SparseMix(width, grid)))
            norm, mlp = nn.LayerNorm(width), Mlp(width, config.mlp_ratio * width)
            self.channel_mix.append(nn.Sequential(nn.Identity(), norm, mlp))
        self.batch_norm = nn.BatchNorm2d(widths[-1])
        self.mlp_head = nn.Sequential(nn.Linear(widths[-1], config.num_labels))
        count = config.num_hidden_layers
        self.rates = [config.drop_path_rate * k / (count - 1) for k in range(count)]

    def forward(self, x, noise=None):
        for k, (token, channel) in enumerate(zip(self.token_mix, self.channel_mix, strict=True)):
            if k in self.starts:
                x = self.to_patch_embedding[self.starts.index(k)](x)
            x = x + self.drop(token(x), k, None if noise is None else noise[:, 2 * k])
            branch = channel(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            x = x + self.drop(branch, k, None if noise is None else noise[:, 2 * k + 1])
        return self.mlp_head(self.batch_norm(x).mean((2, 3)))

    def drop(self, branch, block, noise):
        if noise is None or self.rates[block] == 0:
            return branch
        kept = (noise >= self.rates[block]).float() / (1 - self.rates[block])
        return branch * kept[:, None, None, None]
