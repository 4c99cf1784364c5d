"""How fast images become vectors: ``python -m bench.embed``.

Makes full-size, Rice-compressed exposures of 61 CCDs and measures, in one run and on the same
images and weights: what the cores can decode at best, what the device can multiply at best, each
stage of the engine by itself, the engine from files to the lake, and the published way of working
(`bench.published`).

Runs on a bare node with torch, transformers, numpy, pyarrow and fitsio; with astropy and h5py too
the published way does all its steps. Weights are random unless named: the cost is the same. Only
what is measured is printed. The files of ``--exposures 24 --drawn 61``, enough for a GPU, take
8 GB in the folder for temporary files (``TMPDIR``).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from embedders.readers import cores

#: On the cores: inputs whose arithmetic counts as much as the reading, and smaller ones; once with
#: every pixel weighed, once resized as the published way does it.
SMALL = tuple(
    f"dinov2-vits14-reg.{size}{resize}"
    for size in ("336x168", "168x84")
    for resize in ("", ".sampled")
)


def main() -> None:
    """Run the benchmark and print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--embedder", nargs="+", help=f"[dinov2-vitb14-reg on a GPU, else {' '.join(SMALL)}]"
    )
    parser.add_argument("--weights", type=Path, help="[random]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--workers", type=int, default=cores(), help="[one a core]")
    parser.add_argument("--loaders", type=int, help="of the published way [10, at most one a core]")
    parser.add_argument("--exposures", type=int, default=4, help="files of 61 CCDs to make [4]")
    parser.add_argument("--drawn", type=int, default=20, help="CCDs to embed of each [20]")
    parser.add_argument("--shape", type=int, nargs=2, default=(4094, 2046), metavar=("NY", "NX"))
    parser.add_argument("--images", type=int, help="images of the published way [all]")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    from bench.stages import Bench  # not above: the reading processes import this module

    with tempfile.TemporaryDirectory(prefix="bench-embed-") as folder:
        figures = Bench(arguments, Path(folder)).run(SMALL)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
