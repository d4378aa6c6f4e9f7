"""The page of all options, read off the configuration classes without importing them.

The classes are parsed, not imported: the page needs neither PyTorch nor nerfstudio, and is made in a moment wherever
the docs are built. `tests/test_docs.py` compares what is read here with the classes themselves.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "pds_nerfstudio"
Overrides = dict[str, "ast.expr | Overrides"]
"""Values that take the place of the fields' own defaults, by the names of the fields."""


@dataclass(frozen=True)
class Option:
    """One option of one command."""

    name: str
    """As on the command line."""
    kind: str
    """What it takes: the choices, or a type."""
    default: str
    """What it is if not given; 'required' if it has to be."""
    meaning: str
    """Its explanation."""


@dataclass(frozen=True)
class Field:
    """One field of a configuration class."""

    name: str
    annotation: ast.expr
    default: ast.expr | None
    doc: str


@dataclass
class Sources:
    """What the package's files say about configurations."""

    classes: dict[str, list[Field]] = field(default_factory=dict)
    values: dict[str, ast.expr] = field(default_factory=dict)
    """What the names of modules are assigned."""
    returned: dict[str, ast.expr] = field(default_factory=dict)
    """What functions without arguments return."""

    @classmethod
    def read(cls, package: Path = PACKAGE) -> Sources:
        """Read all files of a package."""
        sources = cls()
        for path in sorted(package.rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                sources._note(node)
        return sources

    def _note(self, node: ast.stmt) -> None:
        match node:
            case ast.ClassDef():
                self.classes[node.name] = list(_fields(node))
            case ast.Assign(targets=[ast.Name(id=name)]):
                self.values[name] = node.value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                self.values[name] = value
            case ast.FunctionDef(body=[*_, ast.Return(value=ast.expr() as value)]) if not node.args.args:
                self.returned[node.name] = value

    def kind(self, annotation: ast.expr) -> str:
        """Say what a value of this type looks like on the command line."""
        match annotation:
            case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
                parts = choices.elts if isinstance(choices, ast.Tuple) else [choices]
                return "one of " + ", ".join(f"`{ast.literal_eval(part)}`" for part in parts)
            case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[of, *_])):
                return self.kind(of)
            case ast.Name(id=name) if name in self.values:
                return self.kind(self.values[name])
            case ast.BinOp(left=left, right=ast.Constant(value=None)):
                return self.kind(left)
        names = {"int": "whole number", "float": "number", "str": "text", "Path": "path", "bool": "`True` or `False`"}
        return names.get(ast.unparse(annotation), ast.unparse(annotation))

    def of_objectives(self) -> list[Option]:
        """Return the options of all objectives, as they follow an objective's name."""
        registry = self.values["OBJECTIVES"]
        assert isinstance(registry, ast.Dict)
        return [
            Option(f"{ast.literal_eval(name)},{f.name}=", self.kind(f.annotation), _shown(f.default), f.doc)
            for name, kind in zip((key for key in registry.keys if key), registry.values, strict=True)
            for f in self.classes[ast.unparse(kind)]
        ]

    def nested(self, of: Field, value: ast.expr | Overrides | None) -> tuple[str, Overrides] | None:
        """Return the configuration class of a field, if it has one, and what differs from that class's defaults."""
        name = ast.unparse(of.annotation)
        if name not in self.classes:
            return None
        call = _factory(of.default)
        if isinstance(call, ast.Name):
            call = self.returned.get(call.id)
        if isinstance(of.default, ast.Name):
            call = self.values.get(of.default.id)
        overrides = _keywords(call)
        return name, overrides | (value if isinstance(value, dict) else _keywords(value))

    def options(self, class_name: str, prefix: str, overrides: Overrides | None = None) -> Iterator[Option]:
        """Yield the options of a configuration class and of those in it.

        Args:
            class_name: The class.
            prefix: How its options begin, for example '--pipeline.'.
            overrides: See `Overrides`.
        """
        for part in self.classes[class_name]:
            value = (overrides or {}).get(part.name)
            if part.name.startswith("_"):
                continue
            name = f"{prefix}{part.name.replace('_', '-')}"
            if inner := self.nested(part, value):
                yield from self.options(inner[0], f"{name}.", inner[1])
            else:
                default = _shown(value if isinstance(value, ast.expr) else part.default)
                yield Option(name, self.kind(part.annotation), default, part.doc)

    def commands(self) -> dict[str, list[Option]]:
        """Return the options that are this package's own, of each command."""
        commands = {}
        for method, model in (("pds_splat", "EditSplatModelConfig"), ("pds_nerf", "EditNerfModelConfig")):
            pipeline = _keywords(_call_of("EditPipelineConfig", self.values[method]))
            trainer: Overrides = {"pipeline": pipeline}
            commands[method.replace("_", "-")] = [
                *self.options("EditRunConfig", "--", trainer),
                *self.options(model, "--pipeline.model.", _keywords(pipeline.get("model"))),
            ]
        commands["pds-image"] = list(self.options("ImageEdit", "--"))
        commands["pds-svg"] = list(self.options("SvgEdit", "--"))
        commands["pds-personalize"] = list(self.options("Personalize", "--"))
        return commands


def _fields(node: ast.ClassDef) -> Iterator[Field]:
    """Yield the fields of a class, each with the string below it."""
    for statement, after in zip(node.body, [*node.body[1:], ast.Pass()], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            doc = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                doc = " ".join(str(after.value.value).split())
            yield Field(statement.target.id, statement.annotation, statement.value, doc)


def _factory(default: ast.expr | None) -> ast.expr | None:
    """Return what the factory of `field(default_factory=...)` makes, or its name."""
    if isinstance(default, ast.Call) and ast.unparse(default.func) == "field":
        made = next((k.value for k in default.keywords if k.arg == "default_factory"), None)
        return made.body if isinstance(made, ast.Lambda) else made
    return None


def _call_of(name: str, within: ast.expr) -> ast.Call | None:
    calls = (node for node in ast.walk(within) if isinstance(node, ast.Call))
    return next((call for call in calls if ast.unparse(call.func) == name), None)


def _keywords(call: ast.expr | Overrides | None) -> Overrides:
    """Return the arguments of a call by their names."""
    if isinstance(call, dict):
        return call
    return {k.arg: k.value for k in call.keywords if k.arg} if isinstance(call, ast.Call) else {}


def _shown(value: ast.expr | None) -> str:
    """Return a default as one would type it."""
    if value is None or ast.unparse(value).endswith("MISSING"):
        return "required"
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "Path":
        value = value.args[0]
    with contextlib.suppress(ValueError):
        constant = ast.literal_eval(value)
        if constant is None or constant == "":
            return "none" if constant is None else "empty"
        return f"{constant:g}" if isinstance(constant, float) else str(constant)
    return ast.unparse(value)


def page(sources: Sources) -> str:
    """Return the page of all options, in Markdown."""
    of = sources.commands()
    scenes = _merged({"`pds-splat`": of["pds-splat"], "`pds-nerf`": of["pds-nerf"]})
    guidance = _merged(
        {
            "scenes": _shortened(of["pds-splat"], "--pipeline.guidance."),
            "pictures": _shortened(of["pds-image"], "--guidance."),
            "drawings": _shortened(of["pds-svg"], "--guidance."),
        }
    )
    tables = {
        "scenes": [o for o in scenes if "." not in o.name or o.name.startswith("--orbit.")],
        "edits": [o for o in scenes if o.name.startswith("--pipeline.") and o.name.count(".") == 1],
        "redrawing": _under(scenes, "--pipeline.refinement."),
        "splats": _under(of["pds-splat"], "--pipeline.model."),
        "nerfs": _under(of["pds-nerf"], "--pipeline.model."),
        "guidance": guidance,
        "objectives": sources.of_objectives(),
        "pictures": [o for o in of["pds-image"] if not o.name.startswith("--guidance.")],
        "drawings": [o for o in of["pds-svg"] if not o.name.startswith("--guidance.")],
        "subjects": of["pds-personalize"],
    }
    return _PAGE.format(**{name: "\n".join(_table(options)) for name, options in tables.items()})


_PAGE = """# Options

This page is made from the configuration classes, so it lists what this version has. The same explanations are in
`ns-train pds-splat --help`, `pds-image --help`, `pds-svg --help` and `pds-personalize --help`. The first of them also
lists the options that are nerfstudio's own.

## Scenes: `ns-train pds-splat` and `ns-train pds-nerf`

Where the two methods differ, the default in brackets is that of `pds-nerf`. Both prompts have to be given.

### The run

{scenes}

### The edit

{edits}

### How renders are redrawn

{redrawing}

### Splats: `pds-splat` only

{splats}

### NeRFs: `pds-nerf` only

{nerfs}

## The guidance of every command

For scenes these options begin with `--pipeline.guidance.`, for pictures and drawings with `--guidance.`: for example
`--pipeline.guidance.objective dds` and `--guidance.objective dds`. Defaults that differ are in brackets.

{guidance}

### Options of an objective

They follow its name after commas, without a space: `--guidance.objective dreamcatalyst,delta=0.05,gamma=0.2`.

{objectives}

## Pictures: `pds-image`

{pictures}

## Drawings: `pds-svg`

{drawings}

## Your own subject: `pds-personalize`

{subjects}
"""


def _under(options: Sequence[Option], prefix: str) -> list[Option]:
    return [option for option in options if option.name.startswith(prefix)]


def _shortened(options: Sequence[Option], prefix: str) -> list[Option]:
    return [replace(o, name=o.name.removeprefix(prefix)) for o in _under(options, prefix)]


def _merged(alike: dict[str, list[Option]]) -> list[Option]:
    """Return the options that all have, each with the defaults of those that differ from the first."""
    first, *others = alike.values()
    merged = []
    for option in first:
        defaults = [next((o.default for o in other if o.name == option.name), None) for other in others]
        if None in defaults:
            continue
        labels = list(alike)[1:]
        differing = [f"{label}: {d}" for label, d in zip(labels, defaults, strict=True) if d != option.default]
        shown = f"{option.default} ({', '.join(differing)})" if differing else option.default
        merged.append(Option(option.name, option.kind, shown, option.meaning))
    return merged


def _table(options: Sequence[Option]) -> list[str]:
    rows = [f"| `{o.name}` | {o.kind} | {o.default} | {_as_markdown(o.meaning)} |" for o in options]
    return ["| option | takes | default | meaning |", "|---|---|---|---|", *rows]


def _as_markdown(text: str) -> str:
    text = text.replace("``", "`").replace("|", "\\|")
    return re.sub(r"(?<![`\w-])--[a-z][a-z0-9.-]*[a-z0-9]", r"`\g<0>`", text)
