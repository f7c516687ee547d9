"""``xtrace keys doctor``"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from xtrace_sdk.cli import options
from xtrace_sdk.cli.console import FAILED, command, print_json, printable, style, table
from xtrace_sdk.cli.settings import Settings
from xtrace_sdk.errors import InputError

if TYPE_CHECKING:
    from xtrace_sdk.x_vec.utils.execution_context_audit import Finding

_COLOURS: Final = {"good": "green", "weak": "yellow", "broken": "red"}


@command
async def doctor(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE...]", help="Files of contexts; by default that of the settings."),
    ] = None,
    remote: Annotated[
        str | None, typer.Option("--remote", metavar="ID", help="Also the context that the server has so.")
    ] = None,
    prove: Annotated[
        bool, typer.Option("--prove", help="Factor the modulus of a key whose subgroup is too short.")
    ] = False,
    json_output: options.Json = False,
    api_key: options.ApiKey = None,
    env_file: options.EnvFile = None,
) -> None:
    """Examine contexts without opening them. Exits with 1 unless all is good.

    Modulus, subgroup, randomiser, seal, key derivation, salt and file permissions, with what to do about
    each. With --prove, a key of yours that is broken is broken before your eyes.
    """
    from xtrace_sdk.x_vec.utils import execution_context_audit as audit
    from xtrace_sdk.x_vec.utils.execution_context_files import read_stored

    settings = Settings.load(env_file, api_key)
    contexts: list[tuple[str, Mapping[str, Any]]] = []
    findings: dict[str, list[Finding]] = {}
    for path in files or ([] if remote else [settings.context_path]):
        contexts.append((str(path), read_stored(path)))
        findings[str(path)] = [*audit.examine(contexts[-1][1]), *audit.examine_file(path)]
    if remote:
        async with settings.connect() as client:
            stored = await client.get_serialized_exec_context(remote)
        contexts.append((remote, stored))
        findings[remote] = audit.examine(stored)
    for name, finding in audit.shared_salts(contexts):
        findings[name].append(finding)
    proofs = {name: _proof(stored, quiet=json_output) for name, stored in contexts} if prove else {}
    if json_output:
        print_json(
            [
                {"context": name, "findings": [vars(one) for one in its], "proof": proofs.get(name)}
                for name, its in findings.items()
            ]
        )
    else:
        for name, its in findings.items():
            _show(name, its)
    if any(one.verdict != "good" for its in findings.values() for one in its):
        raise typer.Exit(FAILED)


def _show(name: str, findings: list[Finding]) -> None:
    print(style(printable(name), "bold"))
    lines = table([("", one.verdict, one.subject, one.found) for one in findings]).splitlines()
    for line, one in zip(lines, findings, strict=True):
        print(line.replace(one.verdict, style(one.verdict, _COLOURS[one.verdict]), 1))
        if one.advice:
            print(f"          → {printable(one.advice)}")


def _proof(stored: Mapping[str, Any], *, quiet: bool) -> dict[str, Any] | None:
    """Factors the modulus if its subgroup is short enough -> p, q as decimal strings and the seconds."""
    from tqdm import tqdm

    from xtrace_sdk.x_vec.crypto.weak_keys import LEAST_BITS, MOST_BITS, factor_by_subgroup
    from xtrace_sdk.x_vec.utils.execution_context_audit import PublicKeyFacts

    facts = PublicKeyFacts.of(stored)
    if facts.element is None or facts.subgroup_bits is None:
        raise InputError("--prove: a plain Paillier key has no subgroup to attack")
    if not LEAST_BITS <= facts.subgroup_bits <= MOST_BITS:
        raise InputError(
            f"--prove: a subgroup of {facts.subgroup_bits} bits takes too long; up to {MOST_BITS} are tried"
        )
    began = time.perf_counter()
    with tqdm(total=100, desc="Factoring", unit="%", disable=quiet or not sys.stderr.isatty()) as bar:
        factor = factor_by_subgroup(
            facts.n, facts.element, facts.subgroup_bits, lambda share: bar.update(100 * share - bar.n)
        )
    seconds = time.perf_counter() - began
    if factor is None:
        raise InputError(
            "--prove: no factor found; the configuration may state another alpha_len than the key has"
        )
    p, q = factor, facts.n // factor
    if not quiet:
        print(f"From the public key alone, in {seconds:.1f} s:\n  p = {p:x}\n  q = {q:x}")
        print(
            f"  p · q = n: {p * q == facts.n}. Whoever has them reads every vector, and so does the server."
        )
    return {"p": str(p), "q": str(q), "seconds": round(seconds, 3)}
