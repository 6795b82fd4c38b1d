"""`attnbench new`: a file with a mechanism, as a start for your own: one that passes `check`, or a wrapper."""

from __future__ import annotations

import keyword
from pathlib import Path

import click

from attnbench import inert, inputs
from attnbench.commands.parameters import path_of
from attnbench.errors import AttnbenchError

TEMPLATE = '''\
"""{name}: every token attends to every token (say here what yours does instead).

Paper   none yet
Agrees  with nothing yet: name the code or the formula that it equals, and the test that shows it
Differs nothing
Shapes  B images, N = H W tokens, C channels, n heads, D = C / n: q, k, v b h w (n d) -> b n (h w) d
Cost    multiply-accumulates per image: 4 N C^2 + 2 N^2 C
"""

from torch import Tensor, nn

from attnbench.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend


def macs(size: Size) -> int:
    """Multiply-accumulates per image; `size.settings` holds the settings."""
    N, C = size.tokens, size.dim
    return 4 * N * C**2 + 2 * N**2 * C


def refuses(scale: float) -> str | None:
    """Why the layer cannot be built with these values, or None; takes any of dim, heads, grid, stride and settings."""
    return f"scale must be positive; got scale={{scale}}" if scale <= 0 else None


@mechanism(
    name="{name}",
    title="softmax attention with a scale of its own",
    defaults={{"scale": 1.0}},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa"),
    reach="global",
    growth="quadratic",
)
class {title}(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, scale: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, scale * (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every token to every token."""
        B, H, W, C = x.shape
        q, k, v = self.qkv(x).view(B, H * W, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = attend(q, k, v, scale=self.scale, kernel=self.kernel)  # b n (h w) d
        return self.proj(y.transpose(1, 2).reshape(B, H, W, C))
'''


@click.command("new")
@click.argument("name", required=False)
@click.option("--wrap", metavar="MODULE:CLASS", help="Wrap this layer, e.g. timm.models.vision_transformer:Attention.")
@click.option("--out", type=path_of("--out"), help="The file to write; NAME.py unless given.")
def command(name: str | None, wrap: str | None, out: Path | None) -> int:
    """Write a file with a mechanism called NAME that passes `attnbench check`, as a start for your own.

    With --wrap the file calls a layer of another package. What cannot be found out by looking at the class is a comment
    there that begins with OPEN, and is printed.
    """
    if wrap is not None and name is None:
        from attnbench.commands import wrapper_file

        name = wrapper_file.default_name(wrap)
    if name is None:
        raise AttnbenchError("new takes a name, or --wrap MODULE:CLASS; for example: attnbench new my_attention")
    if not inputs.is_name(name) or keyword.iskeyword(name):
        raise AttnbenchError(
            f"a mechanism's name must be an identifier of ASCII letters, digits and _, at most {inputs.LONGEST_NAME}; "
            f"got {inputs.brief(name)}; for example my_attention"
        )
    from attnbench import registry

    known = registry.load()
    if name in known.declarations:
        raise AttnbenchError(
            f"a name may be declared once; {name} is declared in {known[name].source}; choose another name"
        )
    path = out or Path(f"{name}.py")
    title = "".join(word[:1].upper() + word[1:] for word in name.split("_")) or "Mine"
    text, questions = TEMPLATE.format(name=name, title=title), list[str]()
    if wrap is not None:
        from attnbench.commands import wrapper_file

        text, questions = wrapper_file.write(name, wrap)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise AttnbenchError(
            f"new writes a new file; {path} is there already; choose another name, or --out FILE"
        ) from error
    except OSError as error:
        raise AttnbenchError(f"{path} cannot be written: {error.strerror or error}; choose another --out") from error
    for question in questions:
        click.echo(inert.terminal(f"open: {question}"), err=True)
    click.echo(f"wrote {path}; change it, then")
    click.echo(f"  attnbench check {path}")
    click.echo(f"  attnbench run --plugin {path} --mechanism {name} --protocol quick")
    return 0
