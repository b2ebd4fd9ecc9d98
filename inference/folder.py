"""The model folder on disk: an adapter a role, `manifest.json`, and `base/` or where the base lies; checks that they
belong together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collm_nas import api  # not the package: it leads to the composition roots
from collm_nas.api import UserError
from collm_nas.prompts import DIGEST_VERSION, DIGEST_VERSIONS, vocabulary_hash
from inference import smollm2

ROLES = ("navigator", "generator")


@dataclass(frozen=True)
class ModelFolder:
    """Where base and adapters lie, and the manifest of each adapter, by role.

    `tokens`: a tokenizer in place of the base's, with tokens that the adapters bring along; None: the base's.
    """

    base: Path
    adapters: Mapping[str, Path]
    manifests: Mapping[str, Mapping[str, Any]]
    tokens: Path | None = None

    @staticmethod
    def open(
        model: Path, navigator: Path | None = None, generator: Path | None = None, *, tuned: bool = True
    ) -> ModelFolder:
        """The folder, checked; UserError says what is missing or made for another digest version.

        `tuned` False leaves adapters aside, whether it has any or not. The name `smollm2` is a folder, too.
        """
        model = located(model, tuned=tuned)
        if not model.is_dir():
            raise UserError(f"the model folder {model} does not exist; it should hold base, navigator, generator")
        base = _base(model)
        if not (base / "config.json").is_file():
            raise UserError(f"{model} is not a model folder: neither it nor its folder 'base' has a config.json")
        if not tuned:
            if navigator or generator:
                raise UserError("adapters were given for a search by an untuned model; leave them out")
            own = model / "manifest.json"
            known = own.is_file() and base in (model, model / "base")  # a base by others knows nothing of ours
            return ModelFolder(base, {}, {"base": _read_manifest(own, "base")} if known else {})
        adapters = {"navigator": navigator or model / "navigator", "generator": generator or model / "generator"}
        for role, path in adapters.items():
            if not (path / "adapter_config.json").is_file():
                raise UserError(
                    f"there is no {role} adapter in {path} (no adapter_config.json); train one with: collm-nas "
                    "finetune, or search with the model as it is: --preset paper"
                )
        manifests = {role: _manifest(path, role) for role, path in adapters.items()}
        tokens = model / "tokenizer"
        return ModelFolder(base, adapters, manifests, tokens if tokens.is_dir() else None)

    @property
    def tokenizer(self) -> Path:
        """Where the tokenizer lies."""
        return self.tokens or self.base

    @property
    def encoding(self) -> str:
        """The encoding the model was trained on: `compact` or `native` (also where it never met any)."""
        known = self.manifests.get("generator") or self.manifests.get("base") or {}
        return str(known.get("encoding", "native"))

    @property
    def digest_version(self) -> int:
        """The version of the digest that the model reads; today's where it was trained on none."""
        known = self.manifests.get("navigator") or self.manifests.get("base") or {}
        return int(known.get("digest_version", DIGEST_VERSION))

    @property
    def advice(self) -> bool:
        """Whether the Navigator met an advisor's candidates in its training."""
        known = self.manifests.get("navigator") or self.manifests.get("base") or {}
        return any(one.get("settings", {}).get("advised") for one in known.get("datasets", ()))

    def weight_bytes(self) -> int:
        """Size of the base's weights on disk."""
        return sum(path.stat().st_size for path in self.base.glob("*.safetensors"))

    def check_tokenizer(self, tokenizer: Any) -> None:
        """UserError where an adapter was trained with other tokens than the base's."""
        for role in self.adapters:
            manifest = self.manifests[role]
            if manifest.get("tokenizer") != vocabulary_hash(tokenizer.get_vocab()):
                raise UserError(
                    f"the {role} adapter in {self.adapters[role]} was trained with another tokenizer than the one in "
                    f"{self.tokenizer}; use the base it was trained on"
                )

    def describe(self) -> dict[str, Any]:
        """Hashes of base and adapters, and what they were trained on."""
        files = {"base": self.base, **self.adapters}
        sources: dict[str, str] = {}
        for manifest in self.manifests.values():
            sources.update(manifest.get("sources", {}))
        return {
            "model": {name: _folder_hash(path) for name, path in files.items()},
            "digest_version": self.digest_version,
            "encoding": self.encoding,
            "sources": sources,
            **({"advice": True} if self.advice else {}),
        }


_SHIPPED = Path(api.__file__).parent / "models"
EMBEDDED = _SHIPPED / "embedded"
"""The model that our package ships."""
SMOLLM2 = _SHIPPED / smollm2.NAME
"""The adapters that it ships for a model of another package."""


def located(model: Path, *, tuned: bool = False) -> Path:
    """The folder of a model that was given by path, or by the name of one that a package carries; `tuned`: with our
    adapters where there are any."""
    if str(model) == EMBEDDED.name:
        return EMBEDDED
    if str(model) == smollm2.NAME and not model.exists():
        return SMOLLM2 if tuned else smollm2.folder()
    return model


def _base(model: Path) -> Path:
    """Its folder `base`, itself, or what its manifest names: a path beside it, or a model that a package carries."""
    if (model / "base").is_dir():
        return model / "base"
    manifest = model / "manifest.json"
    if (model / "config.json").is_file() or not manifest.is_file():
        return model
    named = _read_manifest(manifest, "base").get("base")
    if named is None:
        return model
    return located(Path(named)) if named == smollm2.NAME else (model / named).resolve()


def _manifest(adapter: Path, role: str) -> Mapping[str, Any]:
    """The manifest of an adapter: its own, else the one beside it."""
    for path in (adapter / "manifest.json", adapter.parent / "manifest.json"):
        if path.is_file():
            return _read_manifest(path, role)
    raise UserError(f"the {role} adapter in {adapter} has no manifest.json in or beside it; give the whole folder")


def _read_manifest(path: Path, role: str) -> Mapping[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    version = manifest.get("digest_version") if isinstance(manifest, dict) else None
    if version not in DIGEST_VERSIONS:
        known = " and ".join(map(str, DIGEST_VERSIONS))
        raise UserError(
            f"the {role} adapter was trained on digest version {version} ({path}), but this program writes versions "
            f"{known}; train it again with: collm-nas finetune"
        )
    return dict(manifest)


def _folder_hash(folder: Path) -> str:
    """SHA-256 over the weights, settings and tokenizer of one folder (cards and other text do not count)."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
