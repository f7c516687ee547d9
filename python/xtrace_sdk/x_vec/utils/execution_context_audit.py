"""What can be said of a stored context without opening it: how strong its keys are and how well it is kept.

Everything here is public: who stores a context for others can find out as much.
"""

from __future__ import annotations

import stat
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import factorial, log2
from pathlib import Path
from typing import Any, Final, cast

from xtrace_sdk.errors import DecryptionError, InputError
from xtrace_sdk.x_vec.crypto.key_provider import COST, ORIGINAL_COST, ORIGINAL_SALT, SALT_BYTES
from xtrace_sdk.x_vec.crypto.numbers import load_numbers
from xtrace_sdk.x_vec.crypto.weak_keys import MOST_BITS
from xtrace_sdk.x_vec.utils import execution_context_v2 as v2
from xtrace_sdk.x_vec.utils.execution_context_files import LONGEST_FIELD, parse_object
from xtrace_sdk.x_vec.utils.execution_context_writer import TYPE as WRITER

_SAFE: Final = 112  # bits of security under which a key is weak
_FEASIBLE: Final = 64  # … and under which a person with time and machines breaks it
# (bits of n, bits of security that moduli of this length give, bits that a_p and a_q must have)
_LEVELS: Final = ((7679, 192, 384), (3071, 128, 256), (2047, 112, 224))
# The original SDK multiplies 14 of 256 noise values: the min-entropy of 14 draws whose order is indifferent.
_ORIGINAL_NOISE: Final = log2(256**14 / factorial(14))
_MIGRATE: Final = "make a new context and move the data with `xtrace keys migrate`"


class Verdict(StrEnum):
    """How good something is."""

    good = "good"
    weak = "weak"
    broken = "broken"


@dataclass(frozen=True)
class Finding:
    """One thing examined: what was found and, unless it is good, what to do."""

    subject: str
    found: str
    verdict: Verdict
    advice: str = ""


@dataclass(frozen=True)
class PublicKeyFacts:
    """What the public part tells of a key.

    Attributes:
        n: the modulus.
        element: g_n, which lies in the secret subgroup; None for plain Paillier keys.
        subgroup_bits: bits of each of a_p and a_q, as far as the configuration tells.
    """

    n: int
    element: int | None
    subgroup_bits: int | None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> PublicKeyFacts:
        """From a stored context. Raises DecryptionError or InputError when it is none."""
        texts = [stored.get(name) for name in ("pk", "type", "config")]
        if not all(isinstance(text, str) and len(text) <= LONGEST_FIELD for text in texts):
            raise InputError("not a stored context: pk, type and config are its public part")
        pk, kind, config = cast("list[str]", texts)
        if kind == WRITER:
            public = parse_object(config).get("public")
            return cls.of(public if isinstance(public, dict) and public.get("type") != WRITER else {})
        kind = kind.removeprefix(v2.TYPE_PREFIX)
        if kind == "PaillierClient":
            return cls(load_numbers(pk, ("n",), "pk")["n"], None, None)
        if kind != "PaillierLookupClient":
            raise InputError(f"type: Unsupported type of context {kind[:80]!r}")
        numbers = load_numbers(pk, ("n", "g_n"), "pk")
        lengths = load_numbers(config, ("alpha_len", "key_len"), "config")
        bits = min(lengths["alpha_len"], lengths["key_len"]) // 2
        return cls(numbers["n"], numbers["g_n"], bits)


def examine(stored: Mapping[str, Any]) -> list[Finding]:
    """Everything that a stored context itself tells. Raises DecryptionError or InputError when it is none."""
    facts = PublicKeyFacts.of(stored)
    sealed = v2.is_v2(stored)
    findings = [_modulus(facts), _subgroup(facts), _noise(facts, sealed)]
    if "sk" in stored:
        findings += [_seal(sealed), *_key_derivation(stored, sealed)]
    return findings


def examine_file(path: Path) -> list[Finding]:
    """Who may read the file. Raises OSError."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return [Finding("permissions", f"{mode:04o}", Verdict.weak, f"others can reach it: chmod 600 {path}")]
    return [Finding("permissions", f"{mode:04o}", Verdict.good)]


def shared_salts(contexts: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, Finding]]:
    """For each of several named contexts whose salt another one has as well: its name and what to do."""
    salts = {
        name: stored.get("wrapped_key")
        for name, stored in contexts
        if stored.get("key_provider") == "passphrase"
    }
    findings = []
    for name, salt in salts.items():
        others = [other for other, its in salts.items() if other != name and its == salt]
        if others:
            advice = "equal passphrases give equal keys; rewrap one (`xtrace keys rewrap`), or " + _MIGRATE
            findings.append((name, Finding("salt", f"shared with {', '.join(others)}", Verdict.weak, advice)))
    return findings


def _modulus(facts: PublicKeyFacts) -> Finding:
    bits = facts.n.bit_length()
    level = next((security for least, security, _ in _LEVELS if bits >= least), None)
    if level is not None:
        return Finding("modulus", f"{bits} bits, {level} bits of security", Verdict.good)
    verdict = Verdict.broken if bits < 1024 else Verdict.weak
    return Finding("modulus", f"{bits} bits", verdict, f"too short to last; {_MIGRATE}")


def _subgroup(facts: PublicKeyFacts) -> Finding:
    bits = facts.subgroup_bits
    if bits is None:
        return Finding("subgroup", "none: plain Paillier", Verdict.good)
    security = bits // 2
    found = f"two secret primes of {bits} bits, found in about 2^{security} steps"
    needed = next((least for modulus, _, least in _LEVELS if facts.n.bit_length() >= modulus), _LEVELS[-1][2])
    if bits >= needed:
        return Finding("subgroup", found, Verdict.good)
    if security < _FEASIBLE:
        proof = "; see it with --prove" if bits <= MOST_BITS else ""
        return Finding(
            "subgroup", found, Verdict.broken, f"the public key alone tells the secret one{proof}; {_MIGRATE}"
        )
    return Finding("subgroup", found, Verdict.weak, f"this modulus wants {needed} bits; {_MIGRATE}")


def _noise(facts: PublicKeyFacts, sealed: bool) -> Finding:
    if facts.subgroup_bits is None:
        return Finding("randomiser", f"uniform, {facts.n.bit_length()} bits", Verdict.good)
    entropy = 2 * facts.subgroup_bits
    fresh = f"a fresh exponent each time, {entropy} bits"
    if entropy < 2 * _SAFE:
        return Finding(
            "randomiser", fresh, Verdict.weak, f"it cannot have more than its subgroup; {_MIGRATE}"
        )
    if sealed:
        return Finding("randomiser", fresh, Verdict.good)
    found = f"{fresh}; in data written by the original SDK {_ORIGINAL_NOISE:.1f} bits"
    return Finding("randomiser", found, Verdict.good)


def _seal(sealed: bool) -> Finding:
    if sealed:
        return Finding("seal", "format v2: every field is authenticated", Verdict.good)
    advice = f"whoever can write the file can swap the public key unnoticed by other programs; {_MIGRATE}"
    return Finding(
        "seal", "the original's format: only the secret key is authenticated", Verdict.weak, advice
    )


def _key_derivation(stored: Mapping[str, Any], sealed: bool) -> list[Finding]:
    if stored.get("key_provider") != "passphrase":
        return [Finding("key derivation", f"none: {stored.get('key_provider')}", Verdict.good)]
    cost = v2.scrypt_cost(stored) if sealed else ORIGINAL_COST
    found = f"scrypt, N = 2^{log2(cost or 1):.0f}"
    rewrap = "`xtrace keys rewrap` raises it" if sealed else f"this format has no other; {_MIGRATE}"
    if (cost or 0) >= COST:
        derivation = Finding("key derivation", found, Verdict.good)
    else:
        derivation = Finding("key derivation", found, Verdict.weak, f"guesses are cheap; {rewrap}")
    return [derivation, _salt(stored, sealed)]


def _salt(stored: Mapping[str, Any], sealed: bool) -> Finding:
    try:
        salt = b64decode(str(stored.get("wrapped_key")), validate=True)
    except ValueError:
        raise DecryptionError("wrapped_key: not valid base64") from None
    remedy = "`xtrace keys rewrap` makes a new one" if sealed else _MIGRATE
    if salt in (b"", ORIGINAL_SALT):
        return Finding("salt", "the original SDK's constant, the same for everybody", Verdict.broken, remedy)
    if len(salt) < SALT_BYTES:
        return Finding("salt", f"{len(salt)} bytes", Verdict.weak, remedy)
    return Finding("salt", f"{len(salt)} bytes", Verdict.good)
