"""The commands about contracts: check, docs, diff, schema, build, add, list.

They read files and write files that they are told to write; only `add` changes what tallyd holds. A
contract is given as a file, or by the name of a registered product.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from tallyd import exits
from tallyd.cli.here import locate, time_now
from tallyd.cli.output import print_json, print_lines, say
from tallyd.contract import ContractError, parse_contract
from tallyd.contract.parse import CONTRACT_MAX_BYTES
from tallyd.errors import BadRequest, StateUnusable

if TYPE_CHECKING:
    import argparse

    from tallyd.contract import Contract
    from tallyd.product import Surroundings


def check(arguments: argparse.Namespace) -> int:
    """Say everything that a careful maintainer would mend."""
    from tallyd.contract.days import day_of
    from tallyd.contract.lint import findings

    contract = _read(arguments.file)
    found = findings(contract, arguments.file, day_of(time_now()))
    if arguments.json:
        print_json([one.as_dict() for one in found])
    else:
        print_lines([str(one) for one in found] or [f"{arguments.file}: nothing to mend"])
    return exits.FOUND if any(one.is_error for one in found) else 0


def docs(arguments: argparse.Namespace) -> int:
    """Render the page that a user reads."""
    from tallyd.contract.document import render_document

    name = os.path.basename(arguments.file)
    text = render_document(_read(arguments.file), name)
    again = f"tallyd contract docs {arguments.file} -o {arguments.output}"
    return _put(text, arguments.output, again, is_check=arguments.check)


def diff(arguments: argparse.Namespace) -> int:
    """Say in words what a new version collects more or less."""
    from tallyd import render
    from tallyd.contract.diff import compare, is_wider

    old, new = _read(arguments.old), _read(arguments.new)
    changes = compare(old, new)
    needs_notice = is_wider(changes)
    is_raised = new.schema_version > old.schema_version
    if arguments.json:
        print_json(render.diff_json(changes, needs_notice=needs_notice, is_raised=is_raised))
    else:
        print_lines(render.diff_text(changes, needs_notice=needs_notice))
    if needs_notice and not is_raised:
        say(
            f"tallyd: {arguments.new} collects more under the same schema_version"
            f" {old.schema_version}; raise it"
        )
        return exits.FOUND
    return 0


def schema(arguments: argparse.Namespace) -> int:
    """Export the JSON Schema of a request's body."""
    from tallyd.contract.json_schema import schema_of

    text = json.dumps(schema_of(_read(arguments.file)), indent=2) + "\n"
    again = f"tallyd contract schema {arguments.file} -o {arguments.output}"
    return _put(text, arguments.output, again, is_check=arguments.check)


def build(arguments: argparse.Namespace) -> int:
    """Write the module of constants that a host hands to the stub."""
    from tallyd.contract.build import render_python

    if arguments.python is None:
        say("tallyd: say where to: --python FILE")
        return exits.USAGE
    name = os.path.basename(arguments.file)
    text = render_python(_read(arguments.file), name, is_off=arguments.off)
    again = f"tallyd contract build {arguments.file} --python {arguments.python}"
    return _put(text, arguments.python, again, is_check=arguments.check)


def add(arguments: argparse.Namespace) -> int:
    """Register a contract, and show its notice to whoever does so."""
    from tallyd import notices, render
    from tallyd.contract.diff import compare
    from tallyd.product import look_at

    contract = _read_file(arguments.file)
    around = locate()
    _refuse_shared_file(contract, around)
    before = around.registry.agreement(contract.product).contract
    around.registry.add(contract)
    view = look_at(contract.product, around, time_now())
    print_lines(
        [
            f"registered {contract.product}: contract {contract.short_digest}, schema"
            f" {contract.schema_version}, {len(contract.events)} events, to {view.endpoint}",
            f"consent is {view.consent.state}, decided by {view.consent.decided_by}",
        ]
    )
    if view.pending is not None and before is not None:
        print_lines(render.diff_text(compare(before, contract), needs_notice=True))
    is_owed = not view.is_agreed or view.pending is not None
    if view.consent.is_on and is_owed and view.notice_shown_at is None:
        say(contract.notice)
        notices.mark_shown(contract, around.paths, time_now())
    return 0


def list_all(arguments: argparse.Namespace) -> int:
    """Name every registered contract."""
    from tallyd import render
    from tallyd.errors import NotRegistered
    from tallyd.product import look_at

    around = locate()
    found = []
    for product in around.registry.products():
        try:
            found.append(render.contract_json(look_at(product, around, time_now())))
        except NotRegistered as problem:
            found.append({"product": product, "problem": str(problem)})
    if arguments.json:
        print_json(found)
    else:
        print_lines(render.contracts_text(found))
    return 0


def _refuse_shared_file(contract: Contract, around: Surroundings) -> None:
    """Two products with one state file would decide for one another."""
    from tallyd.errors import NotRegistered

    for product in around.registry.products():
        try:
            other = around.registry.get(product)
        except NotRegistered:
            continue
        if product == contract.product or contract.state is None or other.state is None:
            continue
        if contract.state.path == other.state.path:
            what = f"{contract.state.path} is the state file of {product}"
            raise BadRequest(what, "give it one of its own")


def _read(given: str) -> Contract:
    """The contract in a file, or that of a registered product. Raises ContractError, NotRegistered."""
    is_name = not os.path.exists(given) and os.sep not in given and not given.endswith(".toml")
    return locate().registry.get(given) if is_name else _read_file(given)


def _read_file(file: str) -> Contract:
    try:
        with open(file, "rb") as opened:
            text = opened.read(CONTRACT_MAX_BYTES + 1)
    except OSError as error:
        raise ContractError(file, 0, "", f"cannot be read: {error.strerror}") from None
    return parse_contract(text, file)


def _put(text: str, output: str | None, again: str, *, is_check: bool) -> int:
    """Print what was rendered, write it, or compare it with what was written before."""
    if output is None:
        if is_check:
            say("tallyd: --check compares with a file; name it")
            return exits.USAGE
        print_lines([text.rstrip("\n")])
        return 0
    content = text.encode("utf-8")
    try:
        if is_check:
            with open(output, "rb") as opened:
                is_stale = opened.read() != content
        else:
            with open(output, "wb") as opened:
                opened.write(content)
            is_stale = False
    except OSError as error:
        if is_check and isinstance(error, FileNotFoundError):
            return _stale(output, again)
        what = "cannot be read" if is_check else "cannot be written"
        raise StateUnusable(f"{output} {what}: {error.strerror}") from None
    if is_stale:
        return _stale(output, again)
    say(f"{output} is {'as the contract says' if is_check else 'written'}")
    return 0


def _stale(output: str, again: str) -> int:
    say(f'tallyd: {output} is stale; run "{again}"')
    return exits.FOUND
