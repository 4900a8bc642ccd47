"""AST written out as its description reads, with its authors' names: the truth for `semanir_plugin.archs.AST`.

Shares no code with the package. Images are square, sides multiples of 128; tokens are (B, L, C).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


def to_map(x):
    side = math.isqrt(x.shape[1])
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], side, side)


def to_tokens(x):
    return x.flatten(2).transpose(1, 2)


class InputProj(nn.Module):
    def __init__(self, chans, dim):
        super().__init__()
        self.proj = nn.Sequential(nn.Conv2d(chans, dim, 3, padding=1), nn.LeakyReLU(0.01))

    def forward(self, x):
        return to_tokens(self.proj(x))


class OutputProj(nn.Module):
    def __init__(self, dim, chans):
        super().__init__()
        self.proj = nn.Sequential(nn.Conv2d(dim, chans, 3, padding=1))

    def forward(self, x):
        return self.proj(to_map(x))


class Downsample(nn.Module):
    def __init__(self, dim, out):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(dim, out, 4, stride=2, padding=1))

    def forward(self, x):
        return to_tokens(self.conv(to_map(x)))


class Upsample(nn.Module):
    def __init__(self, dim, out):
        super().__init__()
        self.deconv = nn.Sequential(nn.ConvTranspose2d(dim, out, 2, stride=2))

    def forward(self, x):
        return to_tokens(self.deconv(to_map(x)))


class FRFN(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.linear1 = nn.Sequential(nn.Linear(dim, 2 * hidden), nn.GELU())
        self.dwconv = nn.Sequential(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.GELU())
        self.linear2 = nn.Sequential(nn.Linear(hidden, dim))
        self.partial_conv3 = nn.Conv2d(dim // 4, dim // 4, 3, padding=1, bias=False)

    def forward(self, x):
        x = to_map(x)
        part, rest = x.split([x.shape[1] // 4, x.shape[1] - x.shape[1] // 4], dim=1)
        x = to_tokens(torch.cat([self.partial_conv3(part), rest], dim=1))
        a, g = self.linear1(x).chunk(2, dim=-1)
        return self.linear2(to_tokens(self.dwconv(to_map(a))) * g)


class LeFF(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.linear1 = nn.Sequential(nn.Linear(dim, hidden), nn.GELU())
        self.dwconv = nn.Sequential(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.GELU())
        self.linear2 = nn.Sequential(nn.Linear(hidden, dim))

    def forward(self, x):
        return self.linear2(to_tokens(self.dwconv(to_map(self.linear1(x)))))


class QKV(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.to_q = nn.Linear(dim, dim)
        self.to_kv = nn.Linear(dim, 2 * dim)


class WindowAttention(nn.Module):
    def __init__(self, dim, win_size, heads):
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.randn((2 * win_size - 1) ** 2, heads) * 0.02)
        y, x = torch.meshgrid(torch.arange(win_size), torch.arange(win_size), indexing="ij")
        y, x = y.flatten(), x.flatten()
        index = (y[:, None] - y + win_size - 1) * (2 * win_size - 1) + x[:, None] - x + win_size - 1
        self.register_buffer("relative_position_index", index)
        self.w = nn.Parameter(torch.ones(2))
        self.qkv = QKV(dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x, mask):
        b, n, c = x.shape
        width = c // self.heads
        q = self.qkv.to_q(x).reshape(b, n, self.heads, width).permute(0, 2, 1, 3)
        k, v = self.qkv.to_kv(x).reshape(b, n, 2, self.heads, width).permute(2, 0, 3, 1, 4)
        scores = (q * width**-0.5) @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        scores = scores + bias.reshape(n, n, self.heads).permute(2, 0, 1)
        if mask is not None:
            scores = scores.reshape(-1, len(mask), self.heads, n, n) + mask[:, None]
            scores = scores.reshape(b, self.heads, n, n)
        share = torch.softmax(self.w, 0)
        mixed = share[0] * torch.softmax(scores, -1) + share[1] * F.relu(scores) ** 2
        return self.proj((mixed @ v).transpose(1, 2).reshape(b, n, c))


def partition(x, win_size):
    b, h, w, c = x.shape
    x = x.reshape(b, h // win_size, win_size, w // win_size, win_size, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, win_size * win_size, c)


def reverse(windows, win_size, b, h, w):
    x = windows.reshape(b, h // win_size, w // win_size, win_size, win_size, -1)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, -1)


def shift_mask(h, w, win_size, shift):
    image = torch.zeros(1, h, w, 1)
    count = 0
    for rows in (slice(0, -win_size), slice(-win_size, -shift), slice(-shift, None)):
        for columns in (slice(0, -win_size), slice(-win_size, -shift), slice(-shift, None)):
            image[:, rows, columns] = count
            count += 1
    labels = partition(image, win_size).squeeze(-1)
    return torch.where(labels[:, None, :] != labels[:, :, None], -100.0, 0.0)


FEED_FORWARDS = {"frfn": FRFN, "leff": LeFF}


class Block(nn.Module):
    def __init__(self, dim, resolution, heads, win_size, shift, mlp_ratio, token_mlp, attention, drop):
        super().__init__()
        self.win_size, self.drop = win_size, drop
        self.shift = 0 if resolution <= win_size else shift
        if attention:
            self.norm1 = nn.LayerNorm(dim)
            self.attn = WindowAttention(dim, win_size, heads)
        self.attention = attention
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = FEED_FORWARDS[token_mlp](dim, int(dim * mlp_ratio))

    def drop_path(self, x):
        if not self.training or self.drop == 0:
            return x
        return x * torch.empty(len(x), 1, 1).bernoulli_(1 - self.drop) / (1 - self.drop)

    def attend(self, x):
        b, length, c = x.shape
        side = math.isqrt(length)
        x = self.norm1(x).reshape(b, side, side, c)
        mask = None
        if self.shift:
            mask = shift_mask(side, side, self.win_size, self.shift)
            x = torch.roll(x, (-self.shift, -self.shift), dims=(1, 2))
        x = reverse(self.attn(partition(x, self.win_size), mask), self.win_size, b, side, side)
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), dims=(1, 2))
        return x.reshape(b, length, c)

    def forward(self, x):
        if self.attention:
            x = x + self.drop_path(self.attend(x))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Layer(nn.Module):
    def __init__(self, dim, resolution, depth, heads, win_size, mlp_ratio, token_mlp, attention, drops):
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(dim, resolution, heads, win_size, win_size // 2 * (i % 2), mlp_ratio, token_mlp, attention, drops[i])
            for i in range(depth)
        )

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class ReferenceAST(nn.Module):
    def __init__(
        self,
        *,
        img_size=256,
        in_chans=3,
        embed_dim=32,
        depths=(1, 2, 8, 8, 2, 8, 8, 2, 1),
        num_heads=(1, 2, 4, 8, 16, 16, 8, 4, 2),
        win_size=8,
        mlp_ratio=4.0,
        token_mlp="frfn",
    ):
        super().__init__()
        c, d, h = embed_dim, depths, num_heads
        common = {"win_size": win_size, "mlp_ratio": mlp_ratio, "token_mlp": token_mlp}
        drops = [0.1 * i / max(sum(d[:4]) - 1, 1) for i in range(sum(d[:4]))]
        back = drops[::-1]
        self.input_proj = InputProj(in_chans, c)
        self.output_proj = OutputProj(2 * c, in_chans)

        self.encoderlayer_0 = Layer(c, img_size, d[0], h[0], attention=False, drops=drops[: d[0]], **common)
        self.dowsample_0 = Downsample(c, 2 * c)
        self.encoderlayer_1 = Layer(
            2 * c, img_size // 2, d[1], h[1], attention=False, drops=drops[sum(d[:1]) : sum(d[:2])], **common
        )
        self.dowsample_1 = Downsample(2 * c, 4 * c)
        self.encoderlayer_2 = Layer(
            4 * c, img_size // 4, d[2], h[2], attention=False, drops=drops[sum(d[:2]) : sum(d[:3])], **common
        )
        self.dowsample_2 = Downsample(4 * c, 8 * c)
        self.encoderlayer_3 = Layer(
            8 * c, img_size // 8, d[3], h[3], attention=False, drops=drops[sum(d[:3]) : sum(d[:4])], **common
        )
        self.dowsample_3 = Downsample(8 * c, 16 * c)

        self.conv = Layer(16 * c, img_size // 16, d[4], h[4], attention=True, drops=[0.1] * d[4], **common)

        self.upsample_0 = Upsample(16 * c, 8 * c)
        self.decoderlayer_0 = Layer(16 * c, img_size // 8, d[5], h[5], attention=True, drops=back[: d[5]], **common)
        self.upsample_1 = Upsample(16 * c, 4 * c)
        self.decoderlayer_1 = Layer(
            8 * c, img_size // 4, d[6], h[6], attention=True, drops=back[sum(d[5:6]) : sum(d[5:7])], **common
        )
        self.upsample_2 = Upsample(8 * c, 2 * c)
        self.decoderlayer_2 = Layer(
            4 * c, img_size // 2, d[7], h[7], attention=True, drops=back[sum(d[5:7]) : sum(d[5:8])], **common
        )
        self.upsample_3 = Upsample(4 * c, c)
        self.decoderlayer_3 = Layer(
            2 * c, img_size, d[8], h[8], attention=True, drops=back[sum(d[5:8]) : sum(d[5:9])], **common
        )

    def forward(self, image):
        y = self.input_proj(image)
        conv0 = self.encoderlayer_0(y)
        conv1 = self.encoderlayer_1(self.dowsample_0(conv0))
        conv2 = self.encoderlayer_2(self.dowsample_1(conv1))
        conv3 = self.encoderlayer_3(self.dowsample_2(conv2))
        y = self.conv(self.dowsample_3(conv3))
        y = self.decoderlayer_0(torch.cat([self.upsample_0(y), conv3], -1))
        y = self.decoderlayer_1(torch.cat([self.upsample_1(y), conv2], -1))
        y = self.decoderlayer_2(torch.cat([self.upsample_2(y), conv1], -1))
        y = self.decoderlayer_3(torch.cat([self.upsample_3(y), conv0], -1))
        return image + self.output_proj(y)
