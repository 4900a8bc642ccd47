"""Model cards: the README.md of a network in a repository of the Hugging Face hub, whose head the hub reads.

    license, library_name, pipeline_tag, tags, datasets, metrics, and the scores as `model-index`

`model_card` makes one of what is known of any network, `shipped_card` that of weights that come with this package, and
`evaluation.training_card` that of a training, from the record that it left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from semanir_plugin.archs.descriptor import NetworkDescriptor
from semanir_plugin.errors import UserError
from semanir_plugin.inference.shipped_weights import FOLDER, shipped_weights
from semanir_plugin.markdown import escape_markdown

__all__ = ["Scores", "model_card", "shipped_card"]

Scores = Mapping[str, Mapping[str, float]]
"""By test set, the value of each metric."""

LIBRARY = "semanir_plugin"
LICENCE = "apache-2.0"

_NO_TEXT = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}  # to YAML
_SCORES = re.compile(r"^\| (\w+) \| (?:[\d.]+ / [\d.]+ \| )([\d.]+) / ([\d.]+) \|", re.MULTILINE)
_LINKS_IN_PAGE = re.compile(r"\[([^]]*)\]\(#[^)]*\)")


def model_card(
    options: Mapping[str, Any],
    *,
    descriptor: NetworkDescriptor | None = None,
    name: str | None = None,
    repository: str = "ORGANISATION/NAME",
    license: str = LICENCE,
    datasets: Sequence[str] = (),
    scores: Scores | None = None,
    about: str | None = None,
    text: str = "",
) -> str:
    """Return a card in Markdown, with its head in YAML.

    Args:
        options: The network's, as under `network_g`, `type` included.
        descriptor: Its scale and channels.
        name: What the network is called; None: as its architecture.
        repository: Where it will be.
        license: Of the weights, in the hub's words.
        datasets: That it was trained on.
        scores: What it reaches.
        about: What it is for, a sentence; None: as the descriptor tells.
        text: More sections.
    """
    scale = descriptor.scale if descriptor is not None else int(options.get("upscale", 1))
    name, scores = name or str(options["type"]), scores or {}
    head = {
        "license": license,
        "library_name": LIBRARY,
        "pipeline_tag": "image-to-image",
        "tags": ["image-restoration", "super-resolution" if scale > 1 else "restoration", str(options["type"])],
        "datasets": list(datasets),
        "metrics": list(dict.fromkeys(metric for found in scores.values() for metric in found)),
        "model-index": _index(name, scores),
    }
    parts = [
        _yaml_head({key: value for key, value in head.items() if value}),
        f"# {escape_markdown(name)}\n",
        f"{about or _purpose(options, scale)}\n",
        _usage(repository),
        _score_table(scores),
        text.strip() + "\n" if text.strip() else "",
        f"## Network\n\n```yaml\nnetwork_g:\n{_yaml_lines(options, '  ')}```\n",
    ]
    return "\n".join(part for part in parts if part)


def shipped_card(name: str, **about: Any) -> str:
    """Return the card of weights that come with this package; `about` is of `model_card`.

    Raises:
        UserError: There are none of that name.
    """
    from semanir_plugin.inference.loading import load  # which reads cards nowhere

    common, sections = _read_shipped_cards()
    if name not in shipped_weights():
        raise UserError(f"no weights '{name}' that come with this package; names: {', '.join(shipped_weights())}")
    text = _LINKS_IN_PAGE.sub(r"\1", sections[name]).strip()
    about_it, _, rest = text.partition("\n\n")
    found = {test_set: {"psnr": float(p), "ssim": float(s)} for test_set, p, s in _SCORES.findall(rest)}
    licence = sections["Licence"].strip()
    body = f"## Training and scores\n\n{rest}\n\n{common}\n\n## Licence\n\n{licence}\n"
    net = load(name, device="cpu")
    told = {
        "descriptor": net.descriptor,
        "name": name,
        "datasets": ["BSD400"],
        "scores": found,
        "about": " ".join(about_it.split()),
        "text": body,
    }
    return model_card(net.options, **{**told, **about})


def _read_shipped_cards() -> tuple[str, dict[str, str]]:
    """Return what the shipped weights have in common, and the sections of their card by name."""
    head, *rest = (FOLDER / "README.md").read_text(encoding="utf-8").split("\n## ")
    common = head.partition("What all have in common:\n\n")[2].partition("\n\n")[0]
    return common, {name: text for name, _, text in (each.partition("\n") for each in rest)}


def _purpose(options: Mapping[str, Any], scale: int) -> str:
    told = f"enlarges images {scale} times" if scale > 1 else "restores images at their size"
    return f"A network of the architecture {options['type']} that {told}."


def _usage(repository: str) -> str:
    return (
        "```python\nimport semanir_plugin\n\n"
        f"net = semanir_plugin.load({json.dumps(repository)})  # pip install 'semanir_plugin[hub]'\n"
        'net.restore("photo.jpg").save("restored.png")\n```\n'
    )


def _score_table(scores: Scores) -> str:
    metrics = list(dict.fromkeys(metric for found in scores.values() for metric in found))
    if not metrics:
        return ""
    rows = [["", *metrics], ["---", *("---:" for _ in metrics)]]
    rows += [[escape_markdown(name), *(_shown(found.get(each)) for each in metrics)] for name, found in scores.items()]
    return "## Scores\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _index(name: str, scores: Scores) -> list[dict[str, Any]]:
    """Return scores as the hub takes them."""
    results = [
        {
            "task": {"type": "image-to-image"},
            "dataset": {"name": test_set, "type": test_set},
            "metrics": [{"type": metric, "value": value} for metric, value in found.items()],
        }
        for test_set, found in scores.items()
    ]
    return [{"name": name, "results": results}] if results else []


def _yaml_head(values: Mapping[str, Any]) -> str:
    """Return values as the YAML between dashes with which a card begins."""
    return f"---\n{_yaml_lines(values)}---\n"


def _yaml_lines(values: Mapping[str, Any], indent: str = "") -> str:
    """Return a line of YAML for each key, its value as JSON, which YAML is, where it is more than a word."""
    return "".join(f"{indent}{key}: {_yaml_value(value)}\n" for key, value in values.items())


def _yaml_value(value: Any) -> str:
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w.-]*", value)
    return value if plain and value.lower() not in _NO_TEXT else json.dumps(value, ensure_ascii=False)
