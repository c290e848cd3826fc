"""What the hosts' loaders do with a file: what they turn, drop and only log, restated."""

from collections import OrderedDict

import torch


def sparse_keys(model):
    names = [n for n, m in model.named_modules() if hasattr(m, "conv1x1")]
    return {f"{name}.weight" for name in names}


def openpcdet(model, path):
    """Turns kernels where shapes disagree, drops what still does not fit; returns what was loaded."""
    own, update = model.state_dict(), {}
    for key, value in torch.load(path, weights_only=True)["model_state"].items():
        if key in sparse_keys(model) and key in own and own[key].shape != value.shape:
            native = value.transpose(-1, -2)
            implicit = value.permute(4, 0, 1, 2, 3)
            value = native if native.shape == own[key].shape else implicit
        if key in own and own[key].shape == value.shape:
            update[key] = value.contiguous()
    model.load_state_dict({**own, **update})
    return set(update)


def mmengine(model, state, metadata, *, spconv2):
    """Non-strict; with spconv 2 kernels of no version are turned; mismatches are only logged."""
    own, loaded, log = model.state_dict(), set(), []
    for key, value in state.items():
        if key not in own:
            log.append(f"unexpected {key}")
            continue
        if key in sparse_keys(model) and spconv2:
            version = metadata.get(key.removesuffix(".weight"), {}).get("version")
            if version != 2:
                value = value.permute(4, 0, 1, 2, 3)
        if value.shape != own[key].shape:
            log.append(f"size mismatch for {key}")
            continue
        own[key].copy_(value)
        loaded.add(key)
    return loaded, log


def load_from(model, path, *, spconv2=True):
    """mmengine's ``load_from``: the versions survive."""
    state = torch.load(path, weights_only=True)["state_dict"]
    bare = OrderedDict((key.removeprefix("module."), value) for key, value in state.items())
    return mmengine(model, bare, getattr(state, "_metadata", {}), spconv2=spconv2)


def pretrained_prefix(part, path, prefix, *, spconv2=True):
    """``init_cfg=dict(type='Pretrained', prefix=...)``: a plain dictionary, without versions."""
    state = torch.load(path, weights_only=True)["state_dict"]
    below = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return mmengine(part, below, {}, spconv2=spconv2)


def pointcept(model, path, keywords="module.", replacement="module.", *, strict=False):
    """``CheckpointLoader`` in one process: adds ``module.``, replaces once, strips it, logs gaps."""
    weight = OrderedDict()
    for key, value in torch.load(path, weights_only=True)["state_dict"].items():
        key = key if key.startswith("module.") else "module." + key
        weight[key.replace(keywords, replacement, 1)[7:]] = value
    return model.load_state_dict(weight, strict=strict)
